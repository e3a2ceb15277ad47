"""Robust fit of a smooth law by Levenberg–Marquardt, many fits at once.

A backtest or a bootstrap is hundreds of small fits of one law to the same rows under other weights. They run as one
batch of numpy arrays, which is what makes them fast.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tenfold.scaling.table import FloatArray, IntArray

HUBER_DELTA = 1e-3  # on log loss: Hoffmann et al., arXiv 2203.15556, appendix D.2
BATCH_ELEMENTS = 400_000  # Jacobian entries held at once: small enough to stay in the processor's cache
DAMPING_START, DAMPING_DOWN, DAMPING_UP = 1e-3, 0.2, 6.0
DAMPING_MAX = 1e8

Model = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""Coefficients (R, p) to predicted log loss (R, n) and its derivatives (R, n, p)."""


@dataclass(frozen=True)
class GaussianPrior:
    """Holds coefficients near `centre` (p,) by ½ · strength · distance², `strength` (p,) being 0 for a free one."""

    centre: FloatArray
    strength: FloatArray


@dataclass(frozen=True)
class Problem:
    """R fits of one model: log losses (R, n), weights (R, n) and the box (low, high), each (p,), of coefficients."""

    model: Model
    log_loss: FloatArray
    weights: FloatArray
    low: FloatArray
    high: FloatArray
    delta: float = HUBER_DELTA
    prior: GaussianPrior | None = None

    def rows(self, index: slice | IntArray) -> "Problem":
        """Some of the fits."""
        return replace(self, log_loss=self.log_loss[index], weights=self.weights[index])

    def objective(self, coefficients: FloatArray) -> FloatArray:
        """Σ w·Huber(predicted − measured) of each fit, and what the prior adds, shape (R,)."""
        return self.total(coefficients, self.model(coefficients)[0] - self.log_loss, self.weights)

    def total(self, coefficients: FloatArray, residuals: FloatArray, weights: FloatArray) -> FloatArray:
        """The objective (R,) from residuals that are known already."""
        total: FloatArray = np.einsum("rn,rn->r", weights, huber(residuals, self.delta))
        if self.prior is None:
            return total
        return total + ((coefficients - self.prior.centre) ** 2 @ self.prior.strength) / 2


@dataclass(frozen=True)
class Effort:
    """When a fit stops: after so many steps, or when a step gains less than this share of the objective."""

    steps: int
    tolerance: float


def huber(residuals: FloatArray, delta: float = HUBER_DELTA) -> FloatArray:
    """Huber's loss: r²/2 within delta, delta (|r| − delta/2) outside."""
    size = np.abs(residuals)
    inner = np.minimum(size, delta)
    loss: FloatArray = inner * (size - inner / 2)
    return loss


def solve(problem: Problem, start: FloatArray, effort: Effort) -> FloatArray:
    """Coefficients (R, p) that minimise each fit's objective, from `start` (R, p)."""
    size = max(1, BATCH_ELEMENTS // (problem.weights.shape[1] * start.shape[1]))
    chunks = [slice(first, first + size) for first in range(0, len(start), size)]
    return np.concatenate([_Batch(problem.rows(chunk), start[chunk]).run(effort) for chunk in chunks])


class _Batch:
    """The state of one batch: every fit keeps its best coefficients, damping, residuals and slopes."""

    def __init__(self, problem: Problem, start: FloatArray) -> None:
        self.problem = problem
        self.best = np.clip(start, problem.low, problem.high)
        self.active = np.arange(len(start))
        self.damping = np.full(len(start), DAMPING_START)
        predicted, self.slopes = problem.model(self.best)
        self.residuals = predicted - problem.log_loss
        self.objective = problem.total(self.best, self.residuals, problem.weights)

    def run(self, effort: Effort) -> FloatArray:
        for _ in range(effort.steps):
            if not len(self.active):
                break
            self._step(effort.tolerance)
        return self.best

    def _step(self, tolerance: float) -> None:
        """Try one step of every active fit; keep it where it helps, drop the fits that are done."""
        problem, active = self.problem, self.active
        weights = problem.weights[active]
        step = _damped_step(problem, self.best[active], self.residuals, self.slopes, weights, self.damping[active])
        trial = np.clip(self.best[active] + step, problem.low, problem.high)
        predicted, slopes = problem.model(trial)
        residuals = predicted - problem.log_loss[active]
        reached = problem.total(trial, residuals, weights)
        before = self.objective[active]
        better = reached < before
        self.best[active[better]], self.objective[active[better]] = trial[better], reached[better]
        self.damping[active] *= np.where(better, DAMPING_DOWN, DAMPING_UP)
        done = np.where(better, before - reached <= tolerance * before, self.damping[active] > DAMPING_MAX)
        self.residuals = np.where(better[:, None], residuals, self.residuals)[~done]
        self.slopes = np.where(better[:, None, None], slopes, self.slopes)[~done]
        self.active = active[~done]


def _damped_step(
    problem: Problem,
    coefficients: FloatArray,
    residuals: FloatArray,
    slopes: FloatArray,
    weights: FloatArray,
    damping: FloatArray,
) -> FloatArray:
    """Gauss–Newton step (R, p) with Huber's weights min(1, delta / |r|), damped along the diagonal."""
    robust = weights * (problem.delta / np.maximum(np.abs(residuals), problem.delta))
    weighted = slopes * robust[:, :, None]
    gradient = (residuals[:, None, :] @ weighted)[:, 0]
    curvature = weighted.transpose(0, 2, 1) @ slopes
    if problem.prior is not None:
        gradient += problem.prior.strength * (coefficients - problem.prior.centre)
        curvature += np.diag(problem.prior.strength)
    diagonal = np.einsum("rpp->rp", curvature)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    axis = np.arange(curvature.shape[1])
    curvature[:, axis, axis] += damping[:, None] * diagonal + floor
    step: FloatArray = np.linalg.solve(curvature, -gradient[:, :, None])[:, :, 0].astype(np.float64)
    return step
