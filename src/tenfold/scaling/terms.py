"""What every law is, and the family of laws that are a floor E plus power-law terms.

ln L = logsumexp(e, x1, x2, ...) with e = ln E and each x linear in ln N, ln D or ln C (Hoffmann et al.,
arXiv 2203.15556, appendix D.2). It never leaves the positive numbers and its gradient is a weighted mean. The plainest
of the family, loss from compute alone, stands at the end; laws.py has the others.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tenfold.scaling.solve import Effort, GaussianPrior, Problem, solve
from tenfold.scaling.table import FloatArray, Points, RunTable, Units


class Law(Protocol):
    """One form of scaling law. Coefficients are rows (R, p), so that R fits are evaluated at once."""

    @property
    def name(self) -> str:
        """Short name, for reports."""

    @property
    def formula(self) -> str:
        """The form in one line."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the p coefficients, in order."""

    @property
    def handicap(self) -> float:
        """ln of this form's usual error over that of the others, in backtests of published tables."""

    def obstacle(self, runs: RunTable) -> str | None:
        """Why this law cannot be identified from these runs; None if it can."""

    def fit(self, runs: RunTable, weights: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Coefficients (R, p) of R fits, one for each row of `weights` (R, n); NaN where a fit is impossible.

        `near` (1, p) is a fit to similar rows to start from; without it a grid of starts is searched.
        """

    def log_loss(self, coefficients: FloatArray, points: Points) -> FloatArray:
        """Forecast of ln L, shape (R, m), from coefficients (R, p) at m points."""


LEVEL_WIDTH = 0.02  # values of ln C, ln N or ln D closer than this are one level
COLLINEAR = 0.2  # standard deviation of ln(D/N), freed of its trend, below which N and D move as one


def levels(values: FloatArray) -> int:
    """Count the distinct levels of a logarithm; values within 2% of each other are one level."""
    return 1 + int((np.diff(np.sort(values)) > LEVEL_WIDTH).sum())


def needs_compute_levels(runs: RunTable) -> str | None:
    """A floor, a scale and an exponent need four amounts of compute to leave one over."""
    found = levels(runs.points.c)
    return None if found >= 4 else f"{found} different amounts of compute, 4 needed"


def needs_spread(runs: RunTable) -> str | None:
    """N and D must vary, and apart from each other: with D/N fixed only their joint effect can be seen."""
    return _few_levels(runs, 3, 3) or _together(runs)


def needs_some_spread(runs: RunTable) -> str | None:
    """As needs_spread, but two levels of one of them are enough where the other's exponent is known."""
    return _few_levels(runs, 2, 3) or _together(runs)


def _few_levels(runs: RunTable, least: int, most: int) -> str | None:
    """Both of N and D have `least` levels, and one of them `most`."""
    found = {"N": levels(runs.points.n), "D": levels(runs.points.d)}
    for name, count in found.items():
        if count < least:
            return f"{count} different values of {name}, {least} needed"
    return None if max(found.values()) >= most else f"{most} different values of N or of D needed"


def _together(runs: RunTable) -> str | None:
    across, along = runs.points.n - runs.points.d, runs.points.n + runs.points.d
    intercept, slope = straight_line(along, across)
    apart = float(np.std(across - intercept - slope * along))
    return None if apart > COLLINEAR else f"N and D vary together (D/N off its trend by only {math.exp(apart):.2f}x)"


def straight_line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Intercept and slope by least squares; flat where x does not vary."""
    off = x - x.mean()
    spread = float(off @ off)
    slope = float(off @ y) / spread if spread > len(x) * LEVEL_WIDTH**2 / 4 else 0.0
    return float(y.mean() - slope * x.mean()), slope


def needs_repeats(runs: RunTable) -> str | None:
    """Repeated data must be there to see what repeating costs."""
    return needs_spread(runs) if runs.points.repeats else "no run repeats data (columns epochs or unique)"


PUBLISHED_WORTH = 15.387756  # r_D of Muennighoff et al., arXiv 2305.16264, section 3


def effective_amount(
    base: FloatArray, seen: FloatArray, worth: FloatArray | float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """ln of the effective amount, and its derivatives by `base` = ln U and by ln r; `seen` = ln D or ln N."""
    repeats = np.expm1(np.maximum(seen - base, 0.0))
    left = np.exp(-repeats / worth)
    factor = 1 + worth * (1 - left)
    return base + np.log(factor), 1 - left * (repeats + 1) / factor, (worth * (1 - left) - repeats * left) / factor


def as_new_tokens(points: Points) -> Points:
    """The points with repeated tokens discounted as published: D' new tokens, and C in proportion."""
    tokens, _, _ = effective_amount(points.u, points.d, PUBLISHED_WORTH)
    return Points(points.n, tokens, points.c + tokens - points.d, tokens)


FLOOR_STARTS = (0.05, 0.5, 0.75, 0.92)  # of the lowest loss, from which a fit starts
FLOOR_RANGE = (1e-3, 0.999)  # of the lowest loss, within which E is sought
EXPONENT_RANGE = (0.01, 3.0)
COEFFICIENT_RANGE = (-40.0, 20.0)  # of the log of A, B and their like, in the table's own units
LEAST_RUNS = 5
NEARBY = Effort(12, 1e-3)
HELD_DELTA = 0.02  # least squares but for outliers: the noise of single small runs is larger than Hoffmann's delta

Evaluate = Callable[[FloatArray, Points], tuple[FloatArray, FloatArray]]
"""Coefficients (R, p) and n points to ln L (R, n) and its derivatives by the coefficients (R, n, p)."""

Decays = Callable[[FloatArray, Points], Sequence[FloatArray]]
"""Coefficients (R, p) and n points to how far each power-law term has fallen from its log coefficient, (R, n) each."""


@dataclass(frozen=True)
class Search:
    """Number of a grid's starts that are followed, and how far."""

    starts: int
    effort: Effort


ALONE, TOGETHER = Search(12, Effort(300, 1e-10)), Search(4, Effort(150, 1e-8))


@dataclass(frozen=True)
class HeldNear:
    """What coefficients are held near, for ladders of few and noisy runs, which alone would not determine them.

    `floor` is E as a share of the lowest loss; `exponents` are (position among the coefficients, value, spread).
    Spreads are one standard deviation, of ln E and of each exponent; `noise`, that of ln loss of a run, sets their
    weight.
    """

    floor: float
    floor_spread: float
    exponents: tuple[tuple[int, float, float], ...]
    noise: float

    def prior(self, runs: RunTable, coefficients: int) -> GaussianPrior:
        """Prior of the coefficients in a fit to these runs."""
        centre, spread = np.zeros(coefficients), np.full(coefficients, np.inf)
        centre[0], spread[0] = float(runs.log_loss.min()) + np.log(self.floor), self.floor_spread
        for position, value, width in self.exponents:
            centre[position], spread[position] = value, width
        return GaussianPrior(centre, (self.noise / spread) ** 2)


@dataclass(frozen=True)
class TermLaw:
    """A law from its evaluation with derivatives and a grid of starts. `ranges` bounds every coefficient but e.

    Coefficients are e, then the log coefficient of each term in the order of `decays`, then exponents. A fit is made in
    the table's own units, where the log coefficients hardly pull at the exponents and the file's units cannot matter.
    """

    name: str
    formula: str
    parameters: tuple[str, ...]
    evaluate: Evaluate
    decays: Decays
    starts: Callable[[RunTable], FloatArray]
    ranges: tuple[tuple[float, float], ...]
    needs: Callable[[RunTable], str | None]
    held: HeldNear | None = None
    handicap: float = 0.0
    discounts: bool = False
    """Whether repeated tokens are discounted as published, the law itself knowing nothing of them."""

    def obstacle(self, runs: RunTable) -> str | None:
        """Why this law cannot be identified from these runs; None if it can."""
        free = len(self.parameters) - (1 + len(self.held.exponents) if self.held else 0)
        if len(runs) < max(LEAST_RUNS, free + 1):
            return f"{len(runs)} runs do not determine {len(self.parameters)} coefficients"
        return self.needs(runs)

    def log_loss(self, coefficients: FloatArray, points: Points) -> FloatArray:
        """Forecast of ln L, shape (R, m)."""
        return self.evaluate(coefficients, as_new_tokens(points) if self.discounts else points)[0]

    def fit(self, runs: RunTable, weights: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Coefficients (R, p): from `near` if given, else the best of a grid of starts for each row of weights."""
        seen = replace(runs, points=as_new_tokens(runs.points)) if self.discounts else runs
        units = seen.units
        own = seen.in_units(units)
        low, high = np.array([_floor_range(own), *self.ranges]).T
        targets = np.broadcast_to(own.log_loss, weights.shape)
        problem = Problem(lambda rows: self.evaluate(rows, own.points), targets, weights, low, high)
        if self.held is not None:
            problem = replace(problem, delta=HELD_DELTA, prior=self.held.prior(own, len(self.parameters)))
        if near is not None:
            start = self._moved(near, units, -1)
            return self._moved(solve(problem, np.repeat(start, len(weights), axis=0), NEARBY), units, 1)
        search = ALONE if len(weights) == 1 else TOGETHER
        return self._moved(solve_from_grid(problem, np.clip(self.starts(own), low, high), search), units, 1)

    def _moved(self, coefficients: FloatArray, units: Units, sign: int) -> FloatArray:
        """Coefficients (R, p) from `units` to the file's (`sign` 1) or back (-1); exponents stay."""
        moved = coefficients.copy()
        moved[:, 0] += sign * units.loss
        for term, decay in enumerate(self.decays(coefficients, units.point), start=1):
            moved[:, term] += sign * (units.loss + decay[:, 0])
        return moved


def solve_from_grid(problem: Problem, starts: FloatArray, search: Search) -> FloatArray:
    """For each fit the best of the solutions from its most promising `starts` (S, p)."""
    promise = np.stack([problem.objective(start[None]) for start in starts], axis=1)
    chosen = np.argsort(promise, axis=1, kind="stable")[:, : search.starts]
    index = np.repeat(np.arange(len(promise)), chosen.shape[1])
    repeated = problem.rows(index)
    found = solve(repeated, starts[chosen.ravel()], search.effort)
    left = repeated.objective(found).reshape(chosen.shape)
    best: FloatArray = found.reshape(*chosen.shape, -1)[np.arange(len(left)), left.argmin(axis=1)]
    return best


def log_sum(terms: Sequence[FloatArray]) -> tuple[FloatArray, list[FloatArray]]:
    """Log of the sum of exponentials of the terms, each (R, n), and every term's share of the sum."""
    top = np.maximum.reduce(terms)
    parts = [np.exp(term - top) for term in terms]
    total = np.add.reduce(parts)
    return top + np.log(total), [part / total for part in parts]


def columns(coefficients: FloatArray) -> list[FloatArray]:
    """Each coefficient as (R, 1), to combine with points (n,)."""
    return [coefficients[:, [index]] for index in range(coefficients.shape[1])]


def exponent_grid(*choices: Sequence[float]) -> FloatArray:
    """Every combination, shape (K, number of exponents)."""
    return np.array(list(itertools.product(*choices)))


def _floor_range(runs: RunTable) -> tuple[float, float]:
    """Range of e = ln E: below the lowest loss seen."""
    lowest = float(runs.log_loss.min())
    return lowest + float(np.log(FLOOR_RANGE[0])), lowest + float(np.log(FLOOR_RANGE[1]))


def start_coefficients(decays: FloatArray, exponents: FloatArray, log_loss: FloatArray) -> FloatArray:
    """Starts (4K, 1 + t + q): floors by share, then each term's log coefficient by least squares, then exponents.

    `decays` (K, t, n) are the logs of the terms without their coefficients, `exponents` (K, q) what made them.
    """
    floors = log_loss.min() + np.log(np.array(FLOOR_STARTS))
    centre = decays.mean(axis=2)
    basis = np.exp(decays - centre[:, :, None] - log_loss)
    gram = basis @ basis.transpose(0, 2, 1)
    axis = np.arange(gram.shape[1])
    gram[:, axis, axis] *= 1 + 1e-9
    goal = 1 - np.exp(floors[:, None] - log_loss)
    linear = np.linalg.solve(gram[:, None], (basis[:, None] @ goal[None, :, :, None]))[..., 0]
    positive = np.maximum(linear, 0.02 * np.abs(linear).max(axis=2, keepdims=True) + 1e-30)
    logs = np.log(positive) - centre[:, None, :]
    shape = logs.shape[:2]
    parts = (np.broadcast_to(floors[None, :, None], (*shape, 1)), logs, _repeated(exponents, shape))
    return np.concatenate(parts, axis=2).reshape(shape[0] * shape[1], -1)


def _repeated(exponents: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.broadcast_to(exponents[:, None, :], (*shape, exponents.shape[1]))


GAMMAS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5)


def evaluate_compute(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    """ln L (R, n) and derivatives by e = ln E, k = ln K and gamma (R, n, 3)."""
    e, k, gamma = columns(coefficients)
    total, (_, power) = log_sum([e + 0 * points.c, k - gamma * points.c])
    return total, np.stack([1 - power, power, -power * points.c], axis=2)


def _compute_decays(coefficients: FloatArray, points: Points) -> tuple[FloatArray, ...]:
    _, _, gamma = columns(coefficients)
    return (gamma * points.c,)


def _compute_starts(runs: RunTable) -> FloatArray:
    gammas = exponent_grid(GAMMAS)
    return start_coefficients(-gammas[:, :, None] * runs.points.c, gammas, runs.log_loss)


COMPUTE = TermLaw(
    name="compute",
    formula="E + K/C^gamma",
    parameters=("ln E", "ln K", "gamma"),
    evaluate=evaluate_compute,
    decays=_compute_decays,
    starts=_compute_starts,
    ranges=(COEFFICIENT_RANGE, EXPONENT_RANGE),
    needs=needs_compute_levels,
)
"""Loss from compute alone: L(C) = E + K / C^gamma.

The one form for runs that all follow one recipe of N against D (a ladder at fixed tokens per parameter), where N and D
cannot be told apart. The floor E is what plain power laws leave out (Henighan et al., arXiv 2010.14701, section 1).
"""
