"""Hoffmann's law with one exponent: L(N, D) = E + A / N^alpha + B / D^alpha.

One coefficient fewer, which forecasts better from few runs. It says that the best D/N does not change with scale, which
is what most isoFLOP studies find; Gadre et al. (arXiv 2403.08540, section 2) use it for over-trained models.
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

EXPONENTS = (0.08, 0.15, 0.25, 0.35, 0.5, 0.75, 1.1)


def _evaluate(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, model, data) = log_sum([e + 0 * n, a - alpha * n, b - alpha * d])
    return total, np.stack([floor, model, data, -model * n - data * d], axis=2)


def tied_starts(runs: RunTable) -> FloatArray:
    """Starts (S, 4) over a grid of exponents and floors."""
    exponents = exponent_grid(EXPONENTS)
    points = np.stack([runs.points.n, runs.points.d])
    return start_coefficients(-exponents[:, :, None] * points, exponents, runs.log_loss)


TIED = TermLaw(
    name="tied",
    formula="E + A/N^alpha + B/D^alpha",
    parameters=("ln E", "ln A", "ln B", "alpha"),
    evaluate=_evaluate,
    starts=tied_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE),
    needs=needs_spread,
)
