"""What a loss curve is: a run (size, learning rate of every step) and the losses measured on the way.

The law of curves adds up one term for every step whose learning rate differs from the step before, at every step it is
asked for: 10^5 × 10^5 terms. The terms vary smoothly along a schedule, so neighbouring steps are merged into one drop
at their mean place, weighted by how much each of them dropped (a midpoint rule). 192 drops reproduce the sum over all
steps to a few 1e-4 nats; a jump stays one exact drop, a constant stretch costs nothing.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenfold.config import Schedule
from tenfold.core import InputError
from tenfold.train import learning_rate_factor

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]
DROPS = 128  # merged by share of the whole change; half as many again by share of the run


@dataclass(frozen=True)
class CurveRun:
    """A training run as the laws see it. Step t (counted from 1) uses `learning_rates[t - 1]`.

    The learning rates of all runs of a fit must be in one unit that transfers across sizes: with μP the base rate,
    before any scaling by width.
    """

    learning_rates: Floats
    parameters: float = 1.0
    tokens_per_step: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rates", np.asarray(self.learning_rates, dtype=np.float64))
        rates = self.learning_rates
        if rates.ndim != 1 or not len(rates) or not np.isfinite(rates).all() or rates.min() < 0 or rates.max() == 0:
            raise InputError("learning rates: one per step, finite, none below 0, not all 0")
        if not (self.parameters > 0 and self.tokens_per_step > 0):
            raise InputError("parameters and tokens per step must be above 0")

    @property
    def steps(self) -> int:
        """Number of optimizer steps."""
        return len(self.learning_rates)

    @cached_property
    def warmup_steps(self) -> int:
        """Steps until the learning rate first stands at its peak; the laws speak of the time after."""
        return int(np.argmax(self.learning_rates >= self.learning_rates.max() * (1 - 1e-9))) + 1


@dataclass(frozen=True)
class Curve:
    """Losses of a run, in nats or any other unit, measured after `steps` optimizer steps (increasing, from 1)."""

    run: CurveRun
    steps: Steps
    losses: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", np.asarray(self.steps, dtype=np.int64))
        object.__setattr__(self, "losses", np.asarray(self.losses, dtype=np.float64))
        if self.steps.shape != self.losses.shape or self.steps.ndim != 1:
            raise InputError("a loss curve needs as many losses as steps")
        if not np.isfinite(self.losses).all() or (self.losses <= 0).any():
            raise InputError("a loss curve needs finite losses above 0: leave out what diverged")
        if (np.diff(self.steps) <= 0).any() or (len(self.steps) and not 1 <= self.steps[0] <= self.steps[-1]):
            raise InputError("the steps of a loss curve must increase, from 1 on")
        if not len(self.steps) or self.steps[-1] > self.run.steps:
            raise InputError(f"the steps of a loss curve must lie in 1 … {self.run.steps}, the steps of its run")

    def after_warmup(self) -> "Curve":
        """Without the points before the learning rate reached its peak."""
        kept = self.steps >= self.run.warmup_steps
        if kept.sum() < 4:
            raise InputError(f"a loss curve has {kept.sum()} points after its warm-up; 4 or more are needed")
        return replace(self, steps=self.steps[kept], losses=self.losses[kept])

    def averaged(self, most: int) -> "Curve":
        """At most `most` points, each the mean of its neighbours: half of the groups even in steps, half in their log.

        Training losses of single batches scatter; a group of n of them scatters √n times less.
        """
        if len(self.steps) <= most:
            return self
        first, last = self.steps[0], self.steps[-1]
        edges = np.concatenate([np.linspace(first, last, most // 2), np.geomspace(first, last, most - most // 2)])
        starts = np.unique(np.searchsorted(self.steps, np.unique(edges)[:-1]))
        counts = np.diff(starts, append=len(self.steps))
        steps = np.round(np.add.reduceat(self.steps, starts) / counts).astype(np.int64)
        return replace(self, steps=steps, losses=np.add.reduceat(self.losses, starts) / counts)


def schedule_rates(schedule: Schedule, steps: int, peak: float = 1.0) -> Floats:
    """Learning rate of each of `steps` steps under a schedule of campaign.toml, the very one the trainer uses."""
    return peak * np.array([learning_rate_factor(schedule, step, steps) for step in range(steps)])


def as_steps(steps: ArrayLike, run: CurveRun) -> Steps:
    """Steps as an array, checked to lie within the run."""
    array = np.asarray(steps, dtype=np.int64)
    if array.size and not 1 <= array.min() <= array.max() <= run.steps:
        raise InputError(f"steps must lie in 1 … {run.steps}, the steps of the run")
    return array


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


def trace(run: CurveRun, reference_rate: float = 1.0, reference_sum: float = 1.0, merged: int = DROPS) -> AnnealingPath:
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
