"""Ladders of comparisons made from the known law: what a change is worth is given, noise is drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from tenfold.scaling.multiplier import Comparison
from tenfold.scaling.table import Points
from tests.scaling.runs import loss_by_known_law

RATIOS = (10, 20, 40)
SMALLEST = 1e7


@dataclass(frozen=True)
class Design:
    """Sizes that double, three cool-downs each, this many seeds; noise of a run in ln loss, part of it the trunk's."""

    sizes: int = 4
    seeds: int = 2
    noise: float = 0.003
    correlation: float = 0.5


@cache
def known_loss(parameters: float, tokens: float) -> float:
    """Loss of the reference recipe."""
    return float(loss_by_known_law(Points.of(parameters, tokens))[0])


def ladder(
    design: Design, worth: Callable[[float], float] = lambda compute: 1.0, at: np.random.Generator | None = None
) -> list[Comparison]:
    """Runs of a change worth `worth(compute)` times the compute; without a generator, without noise."""
    random = at or np.random.default_rng(0)
    noise = design.noise if at else 0.0
    found = []
    for size in range(design.sizes):
        for seed in range(design.seeds):
            shared = math.sqrt(design.correlation) * random.normal(size=2)
            for ratio in RATIOS:
                luck = noise * (shared + math.sqrt(1 - design.correlation) * random.normal(size=2))
                bare = _bare(SMALLEST * 2**size, ratio, seed, worth)
                found.append(
                    replace(
                        bare,
                        reference_loss=bare.reference_loss * math.exp(luck[0]),
                        changed_loss=bare.changed_loss * math.exp(luck[1]),
                    )
                )
    return found


def _bare(parameters: float, ratio: float, seed: int, worth: Callable[[float], float]) -> Comparison:
    tokens = parameters * ratio
    compute = 6 * parameters * tokens
    root = math.sqrt(worth(compute))
    name = f"{parameters:.0e}"
    return Comparison(
        rung=f"{name}-{ratio}",
        trunk=name,
        seed=seed,
        parameters=parameters,
        tokens=tokens,
        compute=compute,
        reference_loss=known_loss(parameters, tokens),
        changed_compute=compute,
        changed_loss=known_loss(parameters * root, tokens * root),
    )
