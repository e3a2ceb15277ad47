"""The multi-power law: loss at every step from the learning rates up to it.

L(t) = floor + A·S(t)^−α − B·Σ_k (η_{k−1} − η_k)·(1 − (1 + C·η_k^−γ·(S(t) − S(k)))^−β)

(Luo et al., arXiv 2503.12811, section 3.) S is the sum of learning rates, warm-up included; the sum over k runs over
the steps after the peak. The first power law is what a constant learning rate would reach, the last term is what
annealing takes off. Ours differs in three points: S counts learning rate × tokens, so that runs with other batch sizes
share a law; rates and sums are in units of the fit's largest ones, so that the coefficients are of order one; and over
several sizes each has its own floor, while A and B may follow a power of the parameter count.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tenfold.core.errors import InputError
from tenfold.scaling.curve.annealing import AnnealingPath, trace
from tenfold.scaling.curve.runs import Floats, Run, as_steps

COEFFICIENTS = 8


@dataclass(frozen=True)
class Shape:
    """The law above its floor."""

    amplitude: float
    """A: loss above the floor at the reference sum and constant learning rate."""
    exponent: float
    """α"""
    drop: float
    """B: loss that annealing from the reference rate to zero takes off in the end."""
    speed: float
    """C: how soon a drop pays off."""
    drop_exponent: float
    """β"""
    rate_exponent: float
    """γ"""
    amplitude_trend: float = 0.0
    """A grows as parameters^this."""
    drop_trend: float = 0.0
    """B grows as parameters^this."""

    @classmethod
    def from_logs(cls, values: Floats) -> "Shape":
        """From the vector the fit moves: logs of the first five, the others as they are."""
        logs = np.exp(np.clip(values[:5], -40, 40))
        return cls(*map(float, logs), *map(float, values[5:COEFFICIENTS]))

    def above_floor(self, path: AnnealingPath, sums: Floats, size: float) -> Floats:
        """(points,) loss above the floor at `sums`; `size` is the log of parameters over the reference."""
        remaining, _ = self._remaining(path, sums)
        return self._transient(sums, size) - self._drop(size) * ((1 - remaining) @ path.drops)

    def gradient(self, path: AnnealingPath, sums: Floats, size: float) -> tuple[Floats, Floats]:
        """Loss above the floor, and (points, 8) its derivatives by the vector of `from_logs`."""
        transient, scale = self._transient(sums, size), self._drop(size)
        remaining, grown = self._remaining(path, sums)
        steep = self.drop_exponent * remaining * (1 - np.exp(-grown))
        taken = scale * ((1 - remaining) @ path.drops)
        columns = [
            transient,
            -transient * self.exponent * np.log(sums),
            -taken,
            -scale * (steep @ path.drops),
            -scale * ((self.drop_exponent * grown * remaining) @ path.drops),
            scale * (steep @ (path.drops * path.log_rates)),
            transient * size,
            -taken * size,
        ]
        return transient - taken, np.stack(columns, axis=1)

    def _transient(self, sums: Floats, size: float) -> Floats:
        scale = self.amplitude * float(np.exp(self.amplitude_trend * size))
        return np.asarray(scale * sums**-self.exponent)

    def _drop(self, size: float) -> float:
        return self.drop * float(np.exp(self.drop_trend * size))

    def _remaining(self, path: AnnealingPath, sums: Floats) -> tuple[Floats, Floats]:
        """(points, drops) share of each drop still to come, and log(1 + C·x)."""
        since = np.maximum(sums[:, None] - path.drop_sums, 0)
        grown = np.log1p(self.speed * since * np.exp(-self.rate_exponent * path.log_rates))
        return np.exp(-self.drop_exponent * grown), grown


@dataclass(frozen=True)
class MultiPowerLaw:
    """A fitted law. `floors` has the loss left at infinite time for each parameter count of the fit."""

    shape: Shape
    floors: Mapping[float, float]
    reference_rate: float
    reference_sum: float
    reference_parameters: float
    annealed: bool
    """Whether any curve of the fit annealed; without one the law knows nothing of annealing."""
    residual: float
    """Root mean square of the fit's residuals in log loss."""

    def losses(self, run: Run, steps: ArrayLike) -> Floats:
        """(points,) predicted loss after each of `steps`; the run must have a size of the fit."""
        if run.parameters not in self.floors:
            sizes = ", ".join(f"{size:g}" for size in self.floors)
            raise InputError(f"this law has no floor for {run.parameters:g} parameters, only for {sizes}")
        return self.floors[run.parameters] + self.above_floor(run, steps)

    def above_floor(self, run: Run, steps: ArrayLike) -> Floats:
        """(points,) predicted loss above the floor, for a run of any size."""
        path = trace(run, self.reference_rate, self.reference_sum)
        if len(path.drops) and not self.annealed:
            raise InputError("no curve of the fit anneals: add one with a cool-down to predict this schedule")
        size = float(np.log(run.parameters / self.reference_parameters))
        return self.shape.above_floor(path, path.sums[as_steps(steps, run) - 1], size)
