"""What the runs must show before a law's coefficients mean anything."""

import math

import numpy as np

from tenfold.scaling.table import FloatArray, RunTable

LEVEL_WIDTH = 0.02  # values of ln C, ln N or ln D closer than this are one level
COLLINEAR = 0.2  # standard deviation of ln(D/N), freed of its trend, below which N and D move as one


def levels(values: FloatArray) -> int:
    """How many distinct levels of a logarithm there are, equal within 2%."""
    return 1 + int((np.diff(np.sort(values)) > LEVEL_WIDTH).sum())


def needs_compute_levels(runs: RunTable) -> str | None:
    """A floor, a scale and an exponent need four amounts of compute to leave one over."""
    found = levels(runs.points.c)
    return None if found >= 4 else f"{found} different amounts of compute, 4 needed"


def needs_spread(runs: RunTable) -> str | None:
    """N and D must vary, and apart from each other: with D/N fixed only their joint effect can be seen."""
    points = runs.points
    for name, values in (("N", points.n), ("D", points.d)):
        if levels(values) < 3:
            return f"{levels(values)} different values of {name}, 3 needed"
    across = points.n - points.d
    along = points.n + points.d
    trend = np.polynomial.polynomial.polyfit(along - along.mean(), across, 1)
    apart = float(np.std(across - np.polynomial.polynomial.polyval(along - along.mean(), trend)))
    return None if apart > COLLINEAR else f"N and D vary together (D/N off its trend by only {math.exp(apart):.2f}x)"


def needs_repeats(runs: RunTable) -> str | None:
    """Repeated data must be there to see what repeating costs."""
    return needs_spread(runs) if runs.points.repeats else "no run repeats data (columns epochs or unique)"
