"""Effective compute: how much the reference recipe would have had to spend for the same loss.

A run that reaches, at compute C, the loss the reference law expects at 9.3 C is worth 9.3x the reference. The reference
is scaled at the run's own tokens per parameter, so that a shape off the optimum is not counted as a change of recipe;
the data multiple scales tokens alone.
"""

import math
from dataclasses import dataclass

import numpy as np

from tenfold.core.errors import InputError
from tenfold.scaling.calibration import LEVELS
from tenfold.scaling.law import ScalingLaw
from tenfold.scaling.table import BoolArray, FloatArray, Points

WIDEST = 1e6  # multiples are sought from 1e-6 to 1e6
GRID = 4001


@dataclass(frozen=True)
class Multiple:
    """How many times the reference's compute (or data); infinite where the reference never gets there."""

    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.value:.3g}x [{self.low:.3g}, {self.high:.3g}]"


def effective_compute(
    reference: ScalingLaw, parameters: float, tokens: float, loss: float, level: float = 0.8
) -> Multiple:
    """Compute the reference needs for `loss` at the same D/N, over the compute of N and D."""
    root = np.exp(_log_multiples() / 2)
    path = Points.of(parameters * root, tokens * root, reference.runs.flops_factor * parameters * tokens * root**2)
    return _crossing(reference, path, loss, level)


def effective_data(
    reference: ScalingLaw, parameters: float, tokens: float, loss: float, level: float = 0.8
) -> Multiple:
    """Tokens the reference needs for `loss` at the same N, over D."""
    times = np.exp(_log_multiples())
    n = np.full(GRID, parameters)
    path = Points.of(n, tokens * times, reference.runs.flops_factor * n * tokens * times)
    return _crossing(reference, path, loss, level)


def _log_multiples() -> FloatArray:
    return np.linspace(-math.log(WIDEST), math.log(WIDEST), GRID)


def _crossing(reference: ScalingLaw, path: Points, loss: float, level: float) -> Multiple:
    """Where the expected loss, and the interval's two edges, fall to `loss` along the path."""
    if level not in LEVELS:
        raise InputError(f"level = {level}: must be one of {', '.join(map(str, LEVELS))}")
    if not (math.isfinite(loss) and loss > 0):
        raise InputError(f"loss = {loss}: must be a finite number above 0")
    expected, width = reference.log_loss(path), reference.half_widths(path, level)
    goal = math.log(loss)
    middle = _first(expected <= goal, 0)
    low = _last(expected[:middle] - width[:middle] > goal) + 1
    high = _first(expected + width <= goal, middle)
    curves = ((expected, middle), (expected - width, low), (expected + width, high))
    value, least, most = (_multiple(curve, index, goal) for curve, index in curves)
    return Multiple(value, least, most, level)


def _first(mask: BoolArray, start: int) -> int:
    """First index from `start` on where the mask holds; the grid's end if nowhere."""
    found = np.flatnonzero(mask[start:])
    return start + int(found[0]) if len(found) else GRID


def _last(mask: BoolArray) -> int:
    """Last index where the mask holds; -1 if nowhere."""
    found = np.flatnonzero(mask)
    return int(found[-1]) if len(found) else -1


def _multiple(curve: FloatArray, index: int, goal: float) -> float:
    """The multiple where the curve comes down to the goal just before `index`, by a straight line."""
    if index in (0, GRID):
        return 0.0 if index == 0 else math.inf
    multiples = _log_multiples()
    before, after = curve[index - 1], curve[index]
    share = (before - goal) / (before - after)
    return math.exp(multiples[index - 1] + share * (multiples[index] - multiples[index - 1]))
