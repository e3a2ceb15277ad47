"""Fit of the multi-power law: Huber loss on log loss, several starts, weak priors; the same data give the same law."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

from tenfold.core.errors import InputError
from tenfold.scaling.curve.annealing import AnnealingPath, trace
from tenfold.scaling.curve.law import COEFFICIENTS, MultiPowerLaw, Shape
from tenfold.scaling.curve.runs import Curve, Floats

HUBER = 1e-3
"""Log loss beyond which a residual counts linearly (the value of Hoffmann et al., arXiv 2203.15556, section 3.3)."""
POINTS = 64
"""Points of a curve that enter the fit, each the mean of its neighbours."""
STARTS = tuple((exponent, speed) for exponent in (0.3, 0.6) for speed in (30.0, 1000.0))


@dataclass(frozen=True)
class Prior:
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
    Prior(1, float(np.log(0.45)), 0.3),
    Prior(3, float(np.log(300.0)), 4.0),
    Prior(4, float(np.log(0.5)), 0.3),
    Prior(5, 0.6, 0.3),
    Prior(6, 0.0, 3.0),
    Prior(7, 0.0, 3.0),
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
        shape, floors = Shape.from_logs(vector), np.exp(vector[COEFFICIENTS:])
        parts = [self._predicted(piece, shape, floors) - piece.log_losses for piece in self.pieces]
        priors = [prior.weight * (vector[prior.index] - prior.mean) for prior in PRIORS]
        return np.concatenate([*parts, np.array(priors)])

    def _predicted(self, piece: _Piece, shape: Shape, floors: Floats) -> Floats:
        loss = floors[piece.floor] + shape.above_floor(piece.path, piece.sums, piece.size)
        return np.asarray(np.log(np.maximum(loss, 0.01 * self.lowest[piece.floor])))

    def derivatives(self, vector: Floats) -> Floats:
        shape, floors = Shape.from_logs(vector), np.exp(vector[COEFFICIENTS:])
        return np.concatenate([*(self._rows(piece, shape, floors) for piece in self.pieces), self._prior_rows])

    def _rows(self, piece: _Piece, shape: Shape, floors: Floats) -> Floats:
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
        shape=Shape.from_logs(best.x),
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
