"""Laws that are a floor E plus power-law terms: the log-sum-exp form, its derivatives, and where to start a fit.

ln L = logsumexp(e, x1, x2, ...) with e = ln E and each x linear in ln N, ln D or ln C (Hoffmann et al.,
arXiv 2203.15556, appendix D.2). It never leaves the positive numbers and its gradient is a weighted mean.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tenfold.scaling.laws.solve import Effort, Prior, Problem, solve
from tenfold.scaling.table import FloatArray, Points, RunTable

FLOOR_STARTS = (0.05, 0.5, 0.75, 0.92)  # of the lowest loss, from which a fit starts
FLOOR_RANGE = (1e-3, 0.999)  # of the lowest loss, within which E is sought
EXPONENT_RANGE = (0.01, 3.0)
COEFFICIENT_RANGE = (-60.0, 100.0)  # of the log of A, B and their like
NEARBY = Effort(12, 1e-3)
HELD_DELTA = 0.02  # least squares but for outliers: the noise of single small runs is larger than Hoffmann's delta

Evaluate = Callable[[FloatArray, Points], tuple[FloatArray, FloatArray]]
"""Coefficients (R, p) and n points to ln L (R, n) and its derivatives by the coefficients (R, n, p)."""


@dataclass(frozen=True)
class Search:
    """How many of a grid's starts are followed, and how far."""

    starts: int
    effort: Effort


ALONE, TOGETHER = Search(12, Effort(300, 1e-10)), Search(2, Effort(40, 1e-4))


@dataclass(frozen=True)
class Held:
    """What coefficients are held near, for ladders of few and noisy runs, which alone would not determine them.

    `floor` is E as a share of the lowest loss; `exponents` are (position among the coefficients, value, spread).
    Spreads are one standard deviation, of ln E and of each exponent; `noise`, that of ln loss of a run, sets their
    weight.
    """

    floor: float
    floor_spread: float
    exponents: tuple[tuple[int, float, float], ...]
    noise: float

    def prior(self, runs: RunTable, coefficients: int) -> Prior:
        """The same for the fit to these runs."""
        centre, spread = np.zeros(coefficients), np.full(coefficients, np.inf)
        centre[0], spread[0] = float(runs.log_loss.min()) + np.log(self.floor), self.floor_spread
        for position, value, width in self.exponents:
            centre[position], spread[position] = value, width
        return Prior(centre, (self.noise / spread) ** 2)


@dataclass(frozen=True)
class TermLaw:
    """A law from its evaluation with derivatives and a grid of starts. `ranges` bounds every coefficient but e."""

    name: str
    formula: str
    parameters: tuple[str, ...]
    evaluate: Evaluate
    starts: Callable[[RunTable], FloatArray]
    ranges: tuple[tuple[float, float], ...]
    needs: Callable[[RunTable], str | None]
    held: Held | None = None

    def obstacle(self, runs: RunTable) -> str | None:
        """Why this law cannot be identified from these runs; None if it can."""
        if len(runs) <= len(self.parameters):
            return f"{len(runs)} runs do not determine {len(self.parameters)} coefficients"
        return self.needs(runs)

    def log_loss(self, coefficients: FloatArray, points: Points) -> FloatArray:
        """Forecast of ln L, shape (R, m)."""
        return self.evaluate(coefficients, points)[0]

    def fit(self, runs: RunTable, weights: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Coefficients (R, p): from `near` if given, else the best of a grid of starts for each row of weights."""
        low, high = np.array([_floor_range(runs), *self.ranges]).T
        targets = np.broadcast_to(runs.log_loss, weights.shape)
        problem = Problem(lambda rows: self.evaluate(rows, runs.points), targets, weights, low, high)
        if self.held is not None:
            problem = replace(problem, delta=HELD_DELTA, prior=self.held.prior(runs, len(self.parameters)))
        if near is not None:
            return solve(problem, np.repeat(near, len(weights), axis=0), NEARBY)
        search = ALONE if len(weights) == 1 else TOGETHER
        return solve_from_grid(problem, np.clip(self.starts(runs), low, high), search)


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
