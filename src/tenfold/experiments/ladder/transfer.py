"""Does the best learning rate of the smallest size stay the best one at the next? The ladder rests on it.

CompleteP promises it (Dey et al., arXiv 2505.01618). Several rates at each of the two smallest sizes place each optimum
by a parabola in the logarithm of the rate; between them they must not move by more than the grid is coarse.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.experiments.design import Rung, Trunk
from tenfold.experiments.ladder.tasks import RATE_FACTORS, Task, middle_rung

LARGEST_MOVE = 2.0  # ratio of the optima, in learning rate
FLAT = 0.002  # relative difference of losses between which rates count as equally good


@dataclass(frozen=True)
class RateSweep:
    """Bits per byte of one size at several factors on the campaign's learning rates, and where the best one lies."""

    size: str
    factors: list[float]
    losses: list[float]
    optimum: float

    @property
    def is_bracketed(self) -> bool:
        """Whether rates on both sides of the best one are worse."""
        return self.losses.index(min(self.losses)) not in (0, len(self.losses) - 1)


@dataclass(frozen=True)
class TransferCheck:
    """`moved` is the ratio of the larger size's optimum to the smaller one's."""

    sizes: list[RateSweep]
    moved: float
    holds: bool
    text: str


def check_transfer(trunks: Sequence[Trunk], ladder: Sequence[Task], others: Sequence[Task]) -> TransferCheck | None:
    """Compare the optima; None when no other rates were tried."""
    sweeps = [sweep for trunk in trunks if (sweep := _sweep(trunk, [*ladder, *others])) is not None]
    if len(sweeps) < 2:
        return None
    small, large = sweeps[:2]
    moved = large.optimum / small.optimum
    # Where the campaign's own rate is as good as the best at both sizes, it does not matter where each optimum lies.
    good_at_both = all(sweep.losses[sweep.factors.index(1.0)] <= min(sweep.losses) * (1 + FLAT) for sweep in sweeps[:2])
    bracketed = all(sweep.is_bracketed for sweep in sweeps[:2])
    holds = good_at_both or (bracketed and 1 / LARGEST_MOVE <= moved <= LARGEST_MOVE)
    text = (
        f"best learning rate: {small.optimum:.2g}x the campaign's at {small.size}, {large.optimum:.2g}x at "
        f"{large.size}: {_verdict(holds, bracketed)}"
    )
    return TransferCheck(sweeps[:2], moved, holds, text)


def _verdict(holds: bool, bracketed: bool) -> str:
    if holds:
        return "it transfers"
    if not bracketed:
        return "the rates tried do not bracket it, so nothing is known of transfer; move train.optimizer's rates there"
    return "it does not transfer, so larger runs may be mistuned and miss the forecast"


def _sweep(trunk: Trunk, tasks: Sequence[Task]) -> RateSweep | None:
    middle = middle_rung(trunk)
    mine = [task for task in tasks if task.trunk.name == trunk.name]
    found = {task.rate_factor: loss for task in mine if (loss := _loss(task, middle)) is not None}
    if len(found) < len(RATE_FACTORS):
        return None
    factors = sorted(found)
    losses = [found[factor] for factor in factors]
    return RateSweep(trunk.name, factors, losses, best_factor(factors, losses))


def _loss(task: Task, rung: Rung) -> float | None:
    """Bits per byte of the first holdout; infinite where the rate was too high to train."""
    if task.divergence is not None:
        return math.inf
    result = task.result(rung)
    return next(iter(result.holdouts.values())) if result and result.holdouts else None


def best_factor(factors: Sequence[float], losses: Sequence[float]) -> float:
    """Where a parabola through the best point and its neighbours is lowest; the edge of the grid where none is."""
    best = int(np.argmin(losses))
    if best in (0, len(factors) - 1) or not np.isfinite(losses[best + 1]):
        return float(factors[best])
    x = np.log(factors[best - 1 : best + 2])
    curve = np.polynomial.Polynomial.fit(x, losses[best - 1 : best + 2], 2).convert()
    _, slope, bend = map(float, curve.coef)
    # Where the middle is lowest the vertex lies between the midpoints; losses alike to the last digit say nothing more.
    vertex = -slope / (2 * bend) if bend > 0 else x[1]
    return math.exp(float(np.clip(vertex, (x[0] + x[1]) / 2, (x[1] + x[2]) / 2)))
