"""Loss from N and D: L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al., arXiv 2203.15556, section 3.3)."""

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

EXPONENTS = (0.12, 0.25, 0.4, 0.6, 0.9)


def _evaluate(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha, beta = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, model, data) = log_sum([e + 0 * n, a - alpha * n, b - beta * d])
    return total, np.stack([floor, model, data, -model * n, -data * d], axis=2)


def _starts(runs: RunTable) -> FloatArray:
    exponents = exponent_grid(EXPONENTS, EXPONENTS)
    points = np.stack([runs.points.n, runs.points.d])
    return start_coefficients(-exponents[:, :, None] * points, exponents, runs.log_loss)


HOFFMANN = TermLaw(
    name="hoffmann",
    formula="E + A/N^alpha + B/D^beta",
    parameters=("ln E", "ln A", "ln B", "alpha", "beta"),
    evaluate=_evaluate,
    starts=_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE),
    needs=needs_spread,
)
