"""The isoFLOP frontier in steps: a parabola for each compute budget, then a power law through their minima.

Hoffmann et al. (arXiv 2203.15556, section 3.2) find the best N of each budget this way; the losses at the minima then
follow E + K / C^gamma, three coefficients that forecast the next budget. Away from the frontier the excess grows as
cosh(width · (ln N - ln N_best)), the valley of Hoffmann's law at equal exponents.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.scaling.solve import Effort, Problem
from tenfold.scaling.table import FloatArray, IntArray, Points, RunTable, Units
from tenfold.scaling.terms import (
    COEFFICIENT_RANGE,
    EXPONENT_RANGE,
    FLOOR_STARTS,
    GAMMAS,
    Search,
    columns,
    evaluate_compute,
    exponent_grid,
    needs_spread,
    solve_from_grid,
)

BUDGET_GAP = 0.07  # runs whose ln C differ by less than this share a budget
RUNS_PER_BUDGET, BUDGETS = 4, 4
SEARCH = Search(6, Effort(100, 1e-8))  # a dozen minima cost little
WIDTH_RANGE = (0.01, 2.0)
FLAT = 20.0  # cosh beyond this argument is of no use to anybody and would overflow


@dataclass(frozen=True)
class _Minima:
    """For R fits and K budgets: ln C (K,), then ln N, loss and curvature at each minimum, (R, K), NaN where none."""

    c: FloatArray
    n: FloatArray
    loss: FloatArray
    curvature: FloatArray


@dataclass(frozen=True)
class IsoFlopLaw:
    """Parabolas, then a power law through their minima."""

    name: str = "isoflop"
    formula: str = "E + K/C^gamma cosh(w (ln N - ln G - s ln C))"
    parameters: tuple[str, ...] = ("ln E", "ln K", "gamma", "ln G", "s", "w")
    handicap: float = 0.04

    def obstacle(self, runs: RunTable) -> str | None:
        """Why this law cannot be identified from these runs; None if it can."""
        counts = np.bincount(_budgets(runs.points.c))
        whole = int((counts >= RUNS_PER_BUDGET).sum())
        if whole < BUDGETS:
            return f"{whole} budgets with {RUNS_PER_BUDGET} runs or more, {BUDGETS} needed"
        return needs_spread(runs)

    def log_loss(self, coefficients: FloatArray, points: Points) -> FloatArray:
        """Forecast of ln L, shape (R, m)."""
        e, k, gamma, g, share, width = columns(coefficients)
        away = np.clip(width * (points.n - g - share * points.c), -FLAT, FLAT)
        forecast: FloatArray = np.log(np.exp(e) + np.exp(k - gamma * points.c) * np.cosh(away))
        return forecast

    def fit(self, runs: RunTable, weights: FloatArray, near: FloatArray | None = None) -> FloatArray:
        """Coefficients (R, 6); NaN where fewer than four budgets have a minimum among their runs."""
        del near  # each step is solved outright
        units = runs.units
        result = np.full((len(weights), len(self.parameters)), np.nan)
        minima = _minima(runs.in_units(units), weights)
        usable = np.isfinite(minima.loss).sum(axis=1) >= BUDGETS
        if usable.any():
            rows = _Minima(minima.c, minima.n[usable], minima.loss[usable], minima.curvature[usable])
            result[usable] = _in_file_units(_through(rows), units)
        return result


def _in_file_units(coefficients: FloatArray, units: Units) -> FloatArray:
    """Coefficients (R, 6) found in the table's own units."""
    e, k, gamma, g, share, width = coefficients.T
    k = k + units.loss + gamma * units.c
    return np.column_stack([e + units.loss, k, gamma, g + units.n - share * units.c, share, width])


def _budgets(c: FloatArray) -> IntArray:
    """Budget of each run (n,): runs in order of compute, split where it jumps."""
    order = np.argsort(c, kind="stable")
    budget = np.empty(len(c), dtype=np.int64)
    budget[order] = np.concatenate([[0], np.cumsum(np.diff(c[order]) > BUDGET_GAP)])
    return budget


def _minima(runs: RunTable, weights: FloatArray) -> _Minima:
    """The minimum of each budget's parabola, for each row of weights (R, n)."""
    budget = _budgets(runs.points.c)
    whole = [k for k in range(int(budget.max()) + 1) if (budget == k).sum() >= RUNS_PER_BUDGET]
    c = np.array([runs.points.c[budget == k].mean() for k in whole])
    found = [_parabola(runs.take(budget == k), weights[:, budget == k]) for k in whole]
    empty = np.full((3, len(weights), 0), np.nan)
    n, loss, curvature = np.stack(found, axis=2) if found else empty
    return _Minima(c, n, loss, curvature)


def _parabola(runs: RunTable, weights: FloatArray) -> FloatArray:
    """ln N, loss and curvature at the minimum of loss over ln N, (3, R); NaN unless it lies among the runs."""
    centre = runs.points.n.mean()
    x = runs.points.n - centre
    basis = np.stack([np.ones_like(x), x, x * x])
    gram = np.einsum("rn,pn,qn->rpq", weights, basis, basis) + 1e-10 * np.eye(3)
    moments = np.einsum("rn,pn,n->rp", weights, basis, runs.loss)
    constant, slope, half = np.linalg.solve(gram, moments[..., None])[..., 0].T
    safe = np.where(half > 0, half, np.nan)
    best = -slope / (2 * safe)
    used = weights > 0
    low, high = np.where(used, x, np.inf).min(axis=1), np.where(used, x, -np.inf).max(axis=1)
    valid = (best >= low) & (best <= high) & (used.sum(axis=1) >= RUNS_PER_BUDGET)
    return np.where(valid, np.stack([best + centre, constant + slope * best / 2, 2 * safe]), np.nan)


def _through(minima: _Minima) -> FloatArray:
    """Power laws of loss and of best N through the minima, and the valley's width: coefficients (R, 6)."""
    there = np.isfinite(minima.loss)
    loss = np.where(there, minima.loss, np.nanmax(minima.loss, axis=1, keepdims=True))
    power = _power_law(minima.c, np.log(loss), there.astype(float))
    g, share = _line(minima.c, np.where(there, minima.n, 0.0), there.astype(float))
    above = loss - np.exp(power[:, :1])
    width = np.sqrt(np.nanmedian(np.where(there, minima.curvature / above, np.nan), axis=1))
    return np.column_stack([power, g, share, np.clip(width, *WIDTH_RANGE)])


def _power_law(c: FloatArray, log_loss: FloatArray, weights: FloatArray) -> FloatArray:
    """E + K/C^gamma through each row of losses (R, K): coefficients (R, 3)."""
    lowest, highest = float(log_loss.min()), float(log_loss.max())
    grid = exponent_grid(FLOOR_STARTS, GAMMAS)
    floors, gammas = lowest + np.log(grid[:, 0]), grid[:, 1]
    excess = np.log(np.exp((lowest + highest) / 2) - np.exp(floors))
    starts = np.column_stack([floors, excess + gammas * c.mean(), gammas])
    low, high = np.array([(lowest - 7.0, lowest), COEFFICIENT_RANGE, EXPONENT_RANGE]).T
    points = Points(c, c, c, c)
    problem = Problem(lambda rows: evaluate_compute(rows, points), log_loss, weights, low, high)
    return solve_from_grid(problem, starts, SEARCH)


def _line(x: FloatArray, y: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercept and slope (R,) of the weighted straight line through each row of y (R, K)."""
    total = weights.sum(axis=1)
    middle_x, middle_y = weights @ x / total, (weights * y).sum(axis=1) / total
    off = x - middle_x[:, None]
    slope = (weights * off * y).sum(axis=1) / (weights * off * off).sum(axis=1)
    return middle_y - slope * middle_x, slope


ISOFLOP = IsoFlopLaw()
