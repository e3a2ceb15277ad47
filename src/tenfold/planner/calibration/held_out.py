"""Forecasts of runs that the calibration has not seen: the measure of accuracy, and of how wide intervals must be."""

from collections.abc import Callable, Sequence

import numpy as np

from tenfold.planner.calibration.fit import fit
from tenfold.planner.calibration.measured import Measured
from tenfold.planner.cost.numbers import Array
from tenfold.planner.rows import Run

COVERAGE = 0.90
FEWEST = 10  # residuals below which those of all families count as well
Told = Callable[[int, int], None]


def held_out(measured: Measured, key: Callable[[Run], str], told: Told = lambda done, of: None) -> Array:
    """Forecast seconds of each run, by a calibration fitted from the priors to all runs with another `key`."""
    keys = np.array([key(run) for run in measured.runs])
    different = sorted(set(keys))
    seconds = np.empty(len(measured))
    for number, each in enumerate(different):
        out = keys == each
        rest, these = measured.take(~out), measured.take(out)
        calibration = fit(rest.model, rest.seconds, rest.levels, rest.weights)
        seconds[out] = these.model(calibration.constants(these.levels))
        told(number + 1, len(different))
    return seconds


def half_width(residuals: Array, coverage: float = COVERAGE) -> float:
    """How far, in logarithms, a forecast lies from what is measured in a share `coverage` of the cases.

    The quantile of split conformal prediction (Lei et al., arXiv 1604.04173, section 2.2), with the rank of one more.
    """
    rank = min(1.0, np.ceil((len(residuals) + 1) * coverage) / len(residuals))
    return float(np.quantile(np.abs(residuals), rank, method="higher"))


def half_widths(forecast: Array, seconds: Array, groups: Sequence[str]) -> dict[str, float]:
    """Of each group. Few residuals borrow from those of all."""
    residuals = np.log(forecast / seconds)
    labels = np.array(groups)
    return {group: half_width(_enough(residuals[labels == group], residuals)) for group in sorted(set(groups))}


def covered(forecast: Array, seconds: Array, groups: Sequence[str], keys: Sequence[str]) -> Array:
    """Whether each measurement lies inside the interval that residuals of other keys give: shape (runs,), 0 or 1."""
    residuals = np.log(forecast / seconds)
    labels, key = np.array(groups), np.array(keys)
    inside = np.empty(len(residuals))
    for label, name in sorted(set(zip(groups, keys, strict=True))):
        here = (labels == label) & (key == name)
        own = residuals[(labels == label) & (key != name)]
        inside[here] = np.abs(residuals[here]) <= half_width(_enough(own, residuals[key != name]))
    return inside


def _enough(own: Array, everyone: Array) -> Array:
    return own if len(own) >= FEWEST else np.concatenate([own, everyone])
