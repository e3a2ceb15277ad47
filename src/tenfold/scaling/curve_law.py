"""The multi-power law: loss at every step from the learning rates up to it.

L(t) = floor + A·S(t)^−α − B·Σ_k (η_{k−1} − η_k)·(1 − (1 + C·η_k^−γ·(S(t) − S(k)))^−β)

(Luo et al., arXiv 2503.12811, section 3.) S is the sum of learning rates, warm-up included; the sum over k runs over
the steps after the peak. The first power law is what a constant learning rate would reach, the last term is what
annealing takes off. Ours differs in three points: S counts learning rate × tokens, so that runs with other batch sizes
share a law; rates and sums are in units of the fit's largest ones, so that the coefficients are of order one; and over
several sizes each has its own floor, while A and B may follow a power of the parameter count.

The fit is Huber loss on log loss from several starts under weak priors; the same data give the same law.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import OptimizeResult, least_squares

from tenfold.core import InputError
from tenfold.scaling.curve import AnnealingPath, Curve, CurveRun, Floats, as_steps, trace

COEFFICIENTS = 8
HUBER = 1e-3
"""Log loss beyond which a residual counts linearly (the value of Hoffmann et al., arXiv 2203.15556, section 3.3)."""
POINTS = 64
"""Points of a curve that enter the fit, each the mean of its neighbours."""
STARTS = tuple((exponent, speed) for exponent in (0.3, 0.6) for speed in (30.0, 1000.0))


@dataclass(frozen=True)
class CurveShape:
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
    def from_logs(cls, values: Floats) -> "CurveShape":
        """Make a shape from the vector that the fit moves: logs of the first five, the others as they are."""
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

    shape: CurveShape
    floors: Mapping[float, float]
    reference_rate: float
    reference_sum: float
    reference_parameters: float
    annealed: bool
    """Whether any curve of the fit annealed; without one the law knows nothing of annealing."""
    residual: float
    """Root mean square of the fit's residuals in log loss."""

    def losses(self, run: CurveRun, steps: ArrayLike) -> Floats:
        """(points,) predicted loss after each of `steps`; the run must have a size of the fit."""
        if run.parameters not in self.floors:
            sizes = ", ".join(f"{size:g}" for size in self.floors)
            raise InputError(f"this law has no floor for {run.parameters:g} parameters, only for {sizes}")
        return self.floors[run.parameters] + self.above_floor(run, steps)

    def above_floor(self, run: CurveRun, steps: ArrayLike) -> Floats:
        """(points,) predicted loss above the floor, for a run of any size."""
        path = trace(run, self.reference_rate, self.reference_sum)
        if len(path.drops) and not self.annealed:
            raise InputError("no curve of the fit anneals: add one with a cool-down to predict this schedule")
        size = float(np.log(run.parameters / self.reference_parameters))
        return self.shape.above_floor(path, path.sums[as_steps(steps, run) - 1], size)


@dataclass(frozen=True)
class CoefficientPrior:
    """What a coefficient is held near: by about ten residuals of size HUBER at one `spread`."""

    index: int
    mean: float
    spread: float

    @property
    def weight(self) -> float:
        return 10 * HUBER / self.spread


# α, β and γ: round numbers near what fits to many schedules of a language model give. They decide what the curves leave
# open (two schedules do not separate β, γ and C) and keep the fit from values far outside what was ever seen. The speed
# and the trends over size are hardly held at all. docs/curves.md has what happens without.
PRIORS = (
    CoefficientPrior(1, float(np.log(0.45)), 0.3),
    CoefficientPrior(3, float(np.log(300.0)), 4.0),
    CoefficientPrior(4, float(np.log(0.5)), 0.3),
    CoefficientPrior(5, 0.6, 0.3),
    CoefficientPrior(6, 0.0, 3.0),
    CoefficientPrior(7, 0.0, 3.0),
)


@dataclass(frozen=True)
class _Piece:
    """One curve, ready for the fit."""

    path: AnnealingPath
    sums: Floats
    log_losses: Floats
    size: float
    floor: int


@dataclass(frozen=True)
class _Problem:
    """Residuals and their derivatives; the vector holds the shape's coefficients, then the log floor of each size."""

    pieces: tuple[_Piece, ...]
    lowest: Floats
    trends: bool

    def residuals(self, vector: Floats) -> Floats:
        shape, floors = CurveShape.from_logs(vector), np.exp(vector[COEFFICIENTS:])
        parts = [self._predicted(piece, shape, floors) - piece.log_losses for piece in self.pieces]
        priors = [prior.weight * (vector[prior.index] - prior.mean) for prior in PRIORS]
        return np.concatenate([*parts, np.array(priors)])

    def _predicted(self, piece: _Piece, shape: CurveShape, floors: Floats) -> Floats:
        loss = floors[piece.floor] + shape.above_floor(piece.path, piece.sums, piece.size)
        return np.asarray(np.log(np.maximum(loss, 0.01 * self.lowest[piece.floor])))

    def derivatives(self, vector: Floats) -> Floats:
        shape, floors = CurveShape.from_logs(vector), np.exp(vector[COEFFICIENTS:])
        return np.concatenate([*(self._rows(piece, shape, floors) for piece in self.pieces), self._prior_rows])

    def _rows(self, piece: _Piece, shape: CurveShape, floors: Floats) -> Floats:
        """(points, coefficients + floors) derivatives of a curve's log losses."""
        above, gradient = shape.gradient(piece.path, piece.sums, piece.size)
        gradient[:, 6:] *= self.trends
        by_floor = np.zeros((len(above), len(floors)))
        by_floor[:, piece.floor] = floors[piece.floor]
        loss = np.maximum(floors[piece.floor] + above, 0.01 * self.lowest[piece.floor])
        return np.asarray(np.concatenate([gradient, by_floor], axis=1) / loss[:, None])

    @cached_property
    def _prior_rows(self) -> Floats:
        rows = np.zeros((len(PRIORS), COEFFICIENTS + len(self.lowest)))
        for row, prior in zip(rows, PRIORS, strict=True):
            row[prior.index] = prior.weight
        return rows

    def start(self, exponent: float, speed: float) -> Floats:
        """A first guess: floors a tenth below the lowest losses, the amplitude that then fits the first quarter."""
        floors = 0.9 * self.lowest
        quarters = [(piece, len(piece.sums) // 4) for piece in self.pieces]
        above = [np.exp(piece.log_losses[at]) - floors[piece.floor] for piece, at in quarters]
        amplitude = np.mean(
            [loss * piece.sums[at] ** exponent for (piece, at), loss in zip(quarters, above, strict=True)]
        )
        logs = np.log([amplitude, exponent, 0.1 * self.lowest.min(), speed, 0.5])
        return np.concatenate([logs, [0.6, 0.0, 0.0], np.log(floors)])

    def solve(self) -> OptimizeResult:
        """Least squares from every start, then Huber from the best: its flat slopes far from the data lead nowhere."""
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far, which the solver takes back
            rough = min((self._minimise(self.start(*start), "linear") for start in STARTS), key=_cost)
            return self._minimise(rough.x, "huber")

    def _minimise(self, start: Floats, loss: str) -> OptimizeResult:
        return least_squares(
            self.residuals, start, self.derivatives, loss=loss, f_scale=HUBER, x_scale="jac", max_nfev=100, ftol=1e-7
        )


def _cost(result: OptimizeResult) -> float:
    return float(result.cost)


def fit_law(curves: Sequence[Curve], *, trends: bool = False) -> MultiPowerLaw:
    """The law of one or more curves, of one size or several. Warm-ups are left out.

    Every size gets a floor of its own; exponents are shared. `trends` lets the two amplitudes follow a power of the
    parameter count. Cost: well under a second for three curves of 10^4–10^5 steps.
    """
    kept = [curve.after_warmup().averaged(POINTS) for curve in curves]
    _refuse_unusable(kept)
    rate = max(curve.run.learning_rates.max() for curve in kept)
    longest = max(float(curve.run.learning_rates.sum()) * curve.run.tokens_per_step for curve in kept)
    sizes = sorted({curve.run.parameters for curve in kept})
    reference = sizes[0]
    pieces = tuple(_piece(curve, rate, longest, reference, sizes) for curve in kept)
    lowest = [min(curve.losses.min() for curve in kept if curve.run.parameters == size) for size in sizes]
    problem = _Problem(pieces, np.array(lowest), trends)
    best = problem.solve()
    return MultiPowerLaw(
        shape=CurveShape.from_logs(best.x),
        floors=dict(zip(sizes, map(float, np.exp(best.x[COEFFICIENTS:])), strict=True)),
        reference_rate=float(rate),
        reference_sum=longest,
        reference_parameters=reference,
        annealed=any((piece.path.drop_sums < piece.sums[-1]).any() for piece in pieces),
        residual=float(np.sqrt(np.mean(problem.residuals(best.x)[: -len(PRIORS)] ** 2))),
    )


def _piece(curve: Curve, rate: float, longest: float, reference: float, sizes: Sequence[float]) -> _Piece:
    path = trace(curve.run, rate, longest)
    size = float(np.log(curve.run.parameters / reference))
    sums = path.sums[curve.steps - 1]
    return _Piece(path, sums, np.log(curve.losses), size, sizes.index(curve.run.parameters))


def _refuse_unusable(curves: Sequence[Curve]) -> None:
    if not curves:
        raise InputError("no loss curve to fit")
    for curve in curves:
        third = max(1, len(curve.losses) // 3)
        if np.median(curve.losses[-third:]) >= np.median(curve.losses[:third]):
            raise InputError(
                f"the loss of a curve of {curve.run.parameters:g} parameters does not fall; nothing to fit"
            )
