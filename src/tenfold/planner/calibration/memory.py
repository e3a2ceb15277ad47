"""Fit of the memory constants, robust against the runs whose allocator held twice what they needed."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
from scipy.optimize import least_squares

from tenfold.planner.cost.memory import MemoryConstants, memory_bytes
from tenfold.planner.cost.numbers import Array
from tenfold.planner.rows import Run, layout_of, shape_of

COUNTED = MemoryConstants(
    width=6.5,
    hidden=1.5,
    gathered=0.1,
    logits=6.0,
    logits_again=0.1,
    gradient_bytes=4.0,
    optimizer_bytes=12.0,
    base=2e9,
)
"""Counted from first principles, for frameworks whose memory nobody published.

With fused attention and norms a layer keeps both norms' inputs and outputs, queries, keys and values, and attention's
output (6.5 widths); of a gated MLP gate, up and their product (1.5 times both inner matrices). Logits are kept in 16
bits and in fp32, gradients are summed in fp32, Adam keeps an fp32 weight and two moments (Korthikanti et al., arXiv
2205.05198, section 4.1; Rajbhandari et al., arXiv 1910.02054, section 3.1). 2 GB are context and communication buffers.
Of 2,127 published runs of other frameworks, all of which ran, this says so of 95%; most others are of pages that do not
print how much is recomputed.
"""
SPREAD = 0.4
NOISE = 0.1
NAMES = tuple(each.name for each in fields(MemoryConstants))


def fit_memory(runs: Sequence[Run]) -> MemoryConstants:
    """The most probable constants, given runs whose peak memory was measured; what is counted if none was."""
    chosen = [run for run in runs if run.memory_bytes is not None]
    if not chosen:
        return COUNTED
    shape, layout = shape_of(chosen), layout_of(chosen)
    seen = np.log(np.array([run.memory_bytes for run in chosen], dtype=np.float64))
    origin = np.log([getattr(COUNTED, name) for name in NAMES])

    def residuals(x: Array) -> Array:
        told = np.log(np.asarray(memory_bytes(shape, layout, _constants(x)).total))
        return np.concatenate([(told - seen) / NOISE, (x - origin) / SPREAD])

    return _constants(least_squares(residuals, origin, loss="cauchy").x)


def forecast_memory(runs: Sequence[Run], constants: MemoryConstants) -> Array:
    """Peak bytes of each run."""
    return np.asarray(memory_bytes(shape_of(runs), layout_of(runs), constants).total, dtype=np.float64)


def memory_held_out(runs: Sequence[Run], key: Callable[[Run], str]) -> Array:
    """Forecast bytes of each run by constants fitted to runs with another `key`. All runs must have been measured."""
    told = np.empty(len(runs))
    keys = np.array([key(run) for run in runs])
    for each in sorted(set(keys)):
        out = keys == each
        constants = fit_memory([run for run, skip in zip(runs, out, strict=True) if not skip])
        these = [run for run, take in zip(runs, out, strict=True) if take]
        told[out] = forecast_memory(these, constants)
    return told


def _constants(logarithms: Array) -> MemoryConstants:
    return MemoryConstants(**{name: float(np.exp(x)) for name, x in zip(NAMES, logarithms, strict=True)})
