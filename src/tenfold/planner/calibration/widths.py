"""How much wider an interval is for what its calibration has not seen: a framework, a site, an accelerator, a release.

A new site may reach less of its network than others, a new framework may hide less: each constant of the cost model
deviates there by what its prior allows (`calibration.priors`). A forecast moves with each constant by its sensitivity,
so that a step bound by a network of which nothing is known gets a wide interval, and one that only computes a narrow
one (the delta method). Factors that make nine of ten held-out runs lie inside are fitted for each level.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tenfold.planner.calibration.arrays import LEVELS, RunLevels
from tenfold.planner.calibration.priors import constants_from, prior_spreads
from tenfold.planner.cost.device import Constants
from tenfold.planner.cost.layout import Array

UNSEEN: tuple[str, ...] = ("release", "site", "accelerator", "framework")
"""Levels whose labels may be new, in the order in which their factors are fitted."""
LEAST_FACTOR = {"framework": 1.0}
"""Frameworks are few: with six of them the widest residual says little of the next one, so the prior's spread stays."""
_STEP = 1e-3


def sensitivities(model: Callable[[Constants], Array], logarithms: Array) -> Array:
    """d log(seconds) / d log(constant) of each run, at constants given by their logarithms: shape (runs, constants)."""
    base = np.log(model(constants_from(logarithms)))
    columns = []
    for number in range(logarithms.shape[1]):
        moved = logarithms.copy()
        moved[:, number] += _STEP
        columns.append((np.log(model(constants_from(moved))) - base) / _STEP)
    return np.stack(columns, axis=1)


def spread_of_strangers(sensitivity: Array, level: str) -> Array:
    """Standard deviation that a new label of `level` adds, in logarithms: shape (runs,)."""
    return np.asarray(np.sqrt(np.square(sensitivity * prior_spreads(level)).sum(axis=1)))


def unseen_levels(levels: RunLevels, seen: Mapping[str, Mapping[str, Array]]) -> dict[str, npt.NDArray[np.bool_]]:
    """For each level that may be new, which runs have a label that the calibration has no deviation of."""
    return {
        level: np.array([label not in seen.get(level, {}) for label in levels.labels[level]], dtype=bool)
        for level in UNSEEN
        if level in LEVELS
    }


def level_factor(needed: Array, labels: Sequence[str], coverage: float) -> float:
    """The factor that enough runs need at most, every label weighing the same however many runs it has."""
    names, numbers, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    order = np.argsort(needed)
    weight = np.cumsum(1 / counts[numbers[order]]) / len(names)
    return float(needed[order][min(int(np.searchsorted(weight, coverage - 1e-9)), len(needed) - 1)])
