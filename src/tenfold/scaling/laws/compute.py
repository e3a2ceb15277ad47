"""Loss from compute alone: L(C) = E + K / C^gamma.

The one form for runs that all follow one recipe of N against D (a ladder at fixed tokens per parameter), where N and D
cannot be told apart. The floor E is what plain power laws leave out (Henighan et al., arXiv 2010.14701, section 1).
"""

import numpy as np

from tenfold.scaling.laws.needs import needs_compute_levels
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

GAMMAS = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5)


def evaluate_compute(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    """ln L (R, n) and derivatives by e = ln E, k = ln K and gamma (R, n, 3)."""
    e, k, gamma = columns(coefficients)
    total, (_, power) = log_sum([e + 0 * points.c, k - gamma * points.c])
    return total, np.stack([1 - power, power, -power * points.c], axis=2)


def _starts(runs: RunTable) -> FloatArray:
    gammas = exponent_grid(GAMMAS)
    return start_coefficients(-gammas[:, :, None] * runs.points.c, gammas, runs.log_loss)


COMPUTE = TermLaw(
    name="compute",
    formula="E + K/C^gamma",
    parameters=("ln E", "ln K", "gamma"),
    evaluate=evaluate_compute,
    starts=_starts,
    ranges=(COEFFICIENT_RANGE, EXPONENT_RANGE),
    needs=needs_compute_levels,
)
