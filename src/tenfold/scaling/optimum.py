"""The best split of a compute budget between parameters and tokens."""

import math

import numpy as np

from tenfold.scaling.law import ScalingLaw
from tenfold.scaling.laws import COMPUTE
from tenfold.scaling.table import FloatArray, Points
from tenfold.scaling.views import excess_over_frontier

GRID = 401
BEYOND = math.log(10.0)  # tokens per parameter are sought this far outside the runs' range, in ln


def compute_optimal(law: ScalingLaw, compute: float) -> Points:
    """N and D (no token seen twice) with the lowest expected loss for `compute` FLOP.

    Sought over D/N within ten times the runs' range. Where the runs vary along one recipe only, no law sees N apart
    from D, and the answer is the runs' own recipe, continued.
    """
    product = math.log(compute / law.runs.flops_factor)
    seeing = [member for member in law.committee.members if member[0].law is not COMPUTE]
    if not seeing:
        ratio = _recipe(law, math.log(compute))
        return _split(law, product, np.array([ratio]))
    seen = law.runs.points.d - law.runs.points.n
    grid = np.linspace(seen.min() - BEYOND, seen.max() + BEYOND, GRID)
    points = _split(law, product, grid)
    losses = np.median([candidate.law.log_loss(found, points)[0] for candidate, found in seeing], axis=0)
    return _split(law, product, np.array([_lowest(grid, losses)]))


def _split(law: ScalingLaw, product: float, ratio: FloatArray) -> Points:
    """Points with ln ND = product and ln D/N = ratio."""
    n, d = np.exp((product - ratio) / 2), np.exp((product + ratio) / 2)
    return Points.of(n, d, law.runs.flops_factor * n * d)


def _lowest(grid: FloatArray, losses: FloatArray) -> float:
    """Where the loss is lowest, between grid points by a parabola."""
    best = int(np.argmin(losses))
    if best in (0, len(grid) - 1):
        return float(grid[best])
    left, middle, right = losses[best - 1 : best + 2]
    shift = (left - right) / (2 * (left - 2 * middle + right)) if left + right > 2 * middle else 0.0
    return float(grid[best] + shift * (grid[1] - grid[0]))


def _recipe(law: ScalingLaw, log_compute: float) -> float:
    """ln D/N at this ln C along the straight line through the runs on the frontier."""
    runs = law.runs.take(excess_over_frontier(law.runs) <= 1e-9)
    ratio = runs.points.d - runs.points.n
    if len(runs) < 2:
        return float(np.median(ratio))
    middle = float(runs.points.c.mean())
    line = np.polynomial.polynomial.polyfit(runs.points.c - middle, ratio, 1)
    return float(np.polynomial.polynomial.polyval(log_compute - middle, line))
