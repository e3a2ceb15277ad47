"""What a curve is: a run (size, learning rate of every step) and the losses measured on the way."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tenfold.config import Schedule
from tenfold.core.errors import InputError
from tenfold.train.optimizers import learning_rate_factor

Floats = NDArray[np.float64]
Steps = NDArray[np.int64]


@dataclass(frozen=True)
class Run:
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
        """How many optimizer steps the run takes."""
        return len(self.learning_rates)

    @cached_property
    def warmup_steps(self) -> int:
        """Steps until the learning rate first stands at its peak; the laws speak of the time after."""
        return int(np.argmax(self.learning_rates >= self.learning_rates.max() * (1 - 1e-9))) + 1


@dataclass(frozen=True)
class Curve:
    """Losses of a run, in nats or any other unit, measured after `steps` optimizer steps (increasing, from 1)."""

    run: Run
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


def as_steps(steps: ArrayLike, run: Run) -> Steps:
    """Steps as an array, checked to lie within the run."""
    array = np.asarray(steps, dtype=np.int64)
    if array.size and not 1 <= array.min() <= array.max() <= run.steps:
        raise InputError(f"steps must lie in 1 … {run.steps}, the steps of the run")
    return array
