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


def half_width(residuals: Array, keys: Sequence[str], coverage: float = COVERAGE) -> float:
    """How far, in logarithms, a forecast lies from what is measured in a share `coverage` of the cases.

    The empirical quantile of split conformal prediction (Lei et al., arXiv 1604.04173, section 2.2), in which every key
    (a model shape) weighs the same however many rows it has.
    """
    names, numbers, counts = np.unique(np.array(keys), return_inverse=True, return_counts=True)
    size = np.abs(residuals)
    order = np.argsort(size)
    weight = np.cumsum(1 / counts[numbers[order]]) / len(names)
    return float(size[order][min(int(np.searchsorted(weight, coverage - 1e-9)), len(size) - 1)])


def half_widths(residuals: Array, groups: Sequence[str], keys: Sequence[str]) -> dict[str, float]:
    """Of each group. Few residuals borrow from those of all."""
    labels, key = np.array(groups), np.array(keys)
    widths = {}
    for group in sorted(set(groups)):
        own = labels == group
        chosen = own if own.sum() >= FEWEST else np.ones(len(residuals), dtype=bool)
        widths[group] = half_width(residuals[chosen], list(key[chosen]))
    return widths


def unseen_widths(residuals: Array, groups: Sequence[str], keys: Sequence[str]) -> Array:
    """For each run the half-width that residuals of its group with other keys give: shape (runs,)."""
    labels, key = np.array(groups), np.array(keys)
    widths = np.empty(len(residuals))
    for label, name in sorted(set(zip(groups, keys, strict=True))):
        chosen = (labels == label) & (key != name)
        chosen = chosen if chosen.sum() >= FEWEST else key != name
        widths[(labels == label) & (key == name)] = half_width(residuals[chosen], list(key[chosen]))
    return widths
