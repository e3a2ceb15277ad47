"""A floor and one term that falls with N and with D: L(N, D) = E + K / (N^alpha · D^beta).

The compute law with the two factors of C set free. Sums of two terms say that either scarcity alone stops the loss from
falling; small and short runs are not there yet, more of either helps whatever the other is. Kaplan et al. found such
curves well before the limit (arXiv 2001.08361, figure 4).
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

EXPONENTS = (0.03, 0.08, 0.15, 0.3)


def _evaluate(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, k, alpha, beta = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, term) = log_sum([e + 0 * n, k - alpha * n - beta * d])
    return total, np.stack([floor, term, -term * n, -term * d], axis=2)


def _starts(runs: RunTable) -> FloatArray:
    """Starts (S, 4) over a grid of exponents and floors."""
    exponents = exponent_grid(EXPONENTS, EXPONENTS)
    decay = -exponents[:, [0]] * runs.points.n - exponents[:, [1]] * runs.points.d
    return start_coefficients(decay[:, None, :], exponents, runs.log_loss)


PRODUCT = TermLaw(
    name="product",
    formula="E + K/(N^alpha D^beta)",
    parameters=("ln E", "ln K", "alpha", "beta"),
    evaluate=_evaluate,
    starts=_starts,
    ranges=(COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE),
    needs=needs_spread,
)
