"""The frontier as a surface: L = E + C^-gamma (P·e^(-alpha u) + Q·e^(beta u)), u = ln N - s ln C.

Along the best N for each C (N ~ C^s) the loss is E + K/C^gamma; away from it two exponentials give the walls of the
isoFLOP valley. Hoffmann's law is the case gamma = alpha·beta/(alpha+beta), s = beta/(alpha+beta); here gamma and s are
free, so that a recipe whose frontier bends away from its valley's walls can still be followed.
"""

import numpy as np

from tenfold.scaling.laws.needs import needs_spread
from tenfold.scaling.laws.terms import (
    COEFFICIENT_RANGE,
    EXPONENT_RANGE,
    TermLaw,
    columns,
    exponent_grid,
    log_sum,
    start_coefficients,
)
from tenfold.scaling.table import FloatArray, Points, RunTable

GAMMAS, WALLS, SHARES = (0.08, 0.15, 0.25), (0.2, 0.35, 0.6), (0.4, 0.5, 0.6)
SHARE_RANGE = (0.2, 0.9)  # N ~ C^s: from Hoffmann's 0.5 to Kaplan's 0.73 and beyond


def _evaluate(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, p, q, gamma, alpha, beta, share = columns(coefficients)
    c, u = points.c, points.n - share * points.c
    total, (floor, small, large) = log_sum([e + 0 * c, p - gamma * c - alpha * u, q - gamma * c + beta * u])
    by_share = (alpha * small - beta * large) * c
    return total, np.stack([floor, small, large, -(small + large) * c, -small * u, large * u, by_share], axis=2)


def _starts(runs: RunTable) -> FloatArray:
    grid = exponent_grid(GAMMAS, WALLS, WALLS, SHARES)
    gamma, alpha, beta, share = columns(grid)
    c, u = runs.points.c, runs.points.n - share * runs.points.c
    return start_coefficients(np.stack([-gamma * c - alpha * u, -gamma * c + beta * u], axis=1), grid, runs.log_loss)


FRONTIER = TermLaw(
    name="frontier",
    formula="E + C^-gamma (P e^(-alpha u) + Q e^(beta u)), u = ln N - s ln C",
    parameters=("ln E", "ln P", "ln Q", "gamma", "alpha", "beta", "s"),
    evaluate=_evaluate,
    starts=_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE, SHARE_RANGE),
    needs=needs_spread,
)
