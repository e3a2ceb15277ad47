"""A learning-rate schedule boiled down to what the law needs: running sums and a few hundred drops.

The law adds up one term for every step whose learning rate differs from the step before, at every step it is asked
for: 10^5 × 10^5 terms. The terms vary smoothly along a schedule, so neighbouring steps are merged into one drop at
their mean place, weighted by how much each of them dropped (a midpoint rule). 192 drops reproduce the sum over all
steps to a few 1e-4 nats; a jump stays one exact drop, a constant stretch costs nothing.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.scaling.curve.runs import Floats, Run

DROPS = 128  # merged by share of the whole change; half as many again by share of the run


@dataclass(frozen=True)
class AnnealingPath:
    """Sums are of learning rate × tokens, in units of a reference rate and a reference sum (both of the fit)."""

    sums: Floats
    """(steps,) sum up to and including each step."""
    drops: Floats
    """(drops,) fall of the learning rate since the peak, negative where it rises again."""
    drop_sums: Floats
    """(drops,) sum at which each drop happens."""
    log_rates: Floats
    """(drops,) log of the learning rate after each drop."""


def trace(run: Run, reference_rate: float = 1.0, reference_sum: float = 1.0, merged: int = DROPS) -> AnnealingPath:
    """The path of a run. `merged` = 0 keeps every step's drop."""
    rates = run.learning_rates / reference_rate
    per_step = run.tokens_per_step / reference_sum * reference_rate
    sums = np.cumsum(rates) * per_step
    falls = -np.diff(rates, prepend=rates[0])
    falls[: run.warmup_steps] = 0
    at = np.flatnonzero(falls)
    before = sums[at] - rates[at] * per_step
    smallest = rates.max() * 1e-6  # a rate of exactly 0 has no logarithm, and nothing happens after it
    path = AnnealingPath(sums, falls[at], before, np.log(np.maximum(rates[at], smallest)))
    return _merge(path, merged) if merged and len(at) > merged else path


def _merge(path: AnnealingPath, count: int) -> AnnealingPath:
    """Neighbours in the same share of the whole change and in the same share of the run become one."""
    weights = np.abs(path.drops)
    change = np.cumsum(weights)
    by_change = np.ceil(change / change[-1] * count)
    span = path.drop_sums[-1] - path.drop_sums[0]
    by_sum = np.floor((path.drop_sums - path.drop_sums[0]) / max(span, 1e-300) * (count // 2))
    first = np.flatnonzero(np.concatenate([[True], (np.diff(by_change) != 0) | (np.diff(by_sum) != 0)]))
    total = np.add.reduceat(weights, first)
    return AnnealingPath(
        sums=path.sums,
        drops=np.add.reduceat(path.drops, first),
        drop_sums=np.add.reduceat(weights * path.drop_sums, first) / total,
        log_rates=np.add.reduceat(weights * path.log_rates, first) / total,
    )
