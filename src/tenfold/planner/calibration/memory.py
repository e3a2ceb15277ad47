"""Fit of the memory constants, robust against the runs whose allocator held twice what they needed."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
from scipy.optimize import least_squares

from tenfold.planner.cost.memory import MemoryConstants, memory_bytes
from tenfold.planner.cost.numbers import Array
from tenfold.planner.rows import Run, layout_of, shape_of

PRIOR = MemoryConstants(
    width=16.0,
    hidden=2.5,
    gathered=1.0,
    logits=6.0,
    logits_again=0.7,
    gradient_bytes=4.0,
    optimizer_bytes=12.0,
    base=1e9,
)
"""What to expect: with fused attention a layer keeps its inputs, queries, keys, values and output, those of the MLP,
and what norms need (Korthikanti et al., arXiv 2205.05198, section 4.1); Adam keeps an fp32 weight and two moments."""
SPREAD = 0.4
NOISE = 0.1
NAMES = tuple(each.name for each in fields(MemoryConstants))


def fit_memory(runs: Sequence[Run]) -> MemoryConstants:
    """The most probable constants, given runs whose peak memory was measured; the priors if none was."""
    chosen = [run for run in runs if run.memory_bytes is not None]
    if not chosen:
        return PRIOR
    shape, layout = shape_of(chosen), layout_of(chosen)
    seen = np.log(np.array([run.memory_bytes for run in chosen], dtype=np.float64))
    origin = np.log([getattr(PRIOR, name) for name in NAMES])

    def residuals(x: Array) -> Array:
        told = np.log(np.asarray(memory_bytes(shape, layout, _constants(x)).total))
        return np.concatenate([(told - seen) / NOISE, (x - origin) / SPREAD])

    return _constants(least_squares(residuals, origin, loss="cauchy").x)


def memory_held_out(runs: Sequence[Run], key: Callable[[Run], str]) -> Array:
    """Forecast bytes of each run by constants fitted to runs with another `key`. All runs must have been measured."""
    told = np.empty(len(runs))
    keys = np.array([key(run) for run in runs])
    for each in sorted(set(keys)):
        out = keys == each
        constants = fit_memory([run for run, skip in zip(runs, out, strict=True) if not skip])
        these = [run for run, take in zip(runs, out, strict=True) if take]
        told[out] = memory_bytes(shape_of(these), layout_of(these), constants).total
    return told


def _constants(logarithms: Array) -> MemoryConstants:
    return MemoryConstants(**{name: float(np.exp(x)) for name, x in zip(NAMES, logarithms, strict=True)})
