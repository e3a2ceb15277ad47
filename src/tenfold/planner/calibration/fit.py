"""Fit of the constants: a hierarchy of means and deviations, found as the most probable one given measured runs.

Each run's constants are the means, times what its framework, site, accelerator and release deviate. As these are sums
in logarithms, one derivative for each constant and run serves all levels, so a fit costs some hundreds of evaluations
of the cost model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import scipy.linalg

from tenfold.planner.calibration.prior import LEVELS, means, spreads
from tenfold.planner.cost.constants import NAMES, Constants
from tenfold.planner.cost.numbers import Array

Model = Callable[[Constants], Array]
"""Seconds of each run, given an array of each constant."""
STEP = 1e-4
ROUNDS = 30
NOISE = 0.07
"""Spread of a measurement around the best model of this kind, in logarithms."""
TAIL = 3.0
"""Degrees of freedom of Student's t: published tables hold a few rows that no model explains."""


@dataclass(frozen=True)
class Levels:
    """For each run the labels that its deviations go by."""

    labels: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.labels[LEVELS[0]])

    def take(self, chosen: npt.NDArray[np.bool_]) -> "Levels":
        """Some of the runs, by a mask."""
        kept = {
            level: [x for x, keep in zip(labels, chosen, strict=True) if keep] for level, labels in self.labels.items()
        }
        return Levels(kept)


@dataclass(frozen=True)
class Calibration:
    """Means and deviations, all logarithms, in the order of `Constants`."""

    mean: Array
    deviations: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)

    def constants(self, levels: Levels) -> Constants:
        """Constants of each run; a label that was never seen does not deviate."""
        return constants_from(np.stack([self._row(levels, number) for number in range(len(levels))]))

    def one(self, **labels: str) -> Constants:
        """Constants for one framework, site, accelerator..., as numbers."""
        total = self.mean.copy()
        for level, label in labels.items():
            total = total + self.deviations.get(level, {}).get(label, 0.0)
        return constants_from(total)

    def _row(self, levels: Levels, number: int) -> Array:
        total = self.mean.copy()
        for level in LEVELS:
            total = total + self.deviations.get(level, {}).get(levels.labels[level][number], 0.0)
        return total


def constants_from(logarithms: Array) -> Constants:
    """From logarithms, shape (constants,) or (runs, constants)."""
    values = np.exp(logarithms)
    return Constants(**{name: values[..., number] for number, name in enumerate(NAMES)})


def fit(model: Model, seconds: Array, levels: Levels, weights: Array) -> Calibration:
    """The most probable calibration. `weights` (runs,) say how much each run counts; 1 is one measurement.

    It always starts from the priors: started from a calibration that had seen held-out runs, it would stop near it.
    """
    space = _Space(levels)
    damping = 1e-3
    best = _Point(space.mean.copy(), space, model, seconds, weights)
    for _ in range(ROUNDS):
        step = best.step(damping)
        tried = _Point(best.x + step, space, model, seconds, weights)
        if tried.cost < best.cost:
            gain, best, damping = best.cost - tried.cost, tried, max(damping / 5, 1e-6)
            if gain < 1e-5 * (1 + best.cost):
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    return space.unpack(best.x)


class _Space:
    """Where each free number of the fit lies: first the means, then the deviations that may be other than nothing."""

    def __init__(self, levels: Levels) -> None:
        constants: list[int] = list(range(len(NAMES)))
        spread = list(spreads("spread"))
        members: list[Array] = [np.ones(len(levels), dtype=bool)] * len(NAMES)
        self.owners: list[tuple[str, str]] = [("", "")] * len(NAMES)
        for level in LEVELS:
            allowed = spreads(level)
            for label in sorted(set(levels.labels[level])):
                mask = np.array([each == label for each in levels.labels[level]])
                for number in np.flatnonzero(allowed):
                    constants.append(int(number))
                    spread.append(float(allowed[number]))
                    members.append(mask)
                    self.owners.append((level, label))
        self.constant = np.array(constants)
        self.spread = np.array(spread)
        self.member = np.stack(members, axis=1).astype(np.float64)
        self.mean = np.concatenate([means(), np.zeros(len(constants) - len(NAMES))])

    def logarithms(self, x: Array) -> Array:
        """Of each run's constants: shape (runs, constants)."""
        each = np.zeros((len(self.member), len(NAMES)))
        for number in range(len(NAMES)):
            chosen = self.constant == number
            each[:, number] = self.member[:, chosen] @ x[chosen]
        return each

    def jacobian(self, derivative: Array) -> Array:
        """From d log(seconds) / d log(constant), shape (runs, constants), to one column for each free number."""
        return derivative[:, self.constant] * self.member

    def unpack(self, x: Array) -> Calibration:
        deviations: dict[str, dict[str, Array]] = {level: {} for level in LEVELS}
        for value, number, (level, label) in zip(x, self.constant, self.owners, strict=True):
            if level:
                deviations[level].setdefault(label, np.zeros(len(NAMES)))[number] = value
        return Calibration(x[: len(NAMES)].copy(), deviations)


class _Point:
    """One place of the search: how improbable it is, and where to go from there."""

    def __init__(self, x: Array, space: _Space, model: Model, seconds: Array, weights: Array) -> None:
        self.x, self.space, self.model, self.weights = x, space, model, weights
        self.logarithms = space.logarithms(x)
        self.predicted = np.log(model(constants_from(self.logarithms)))
        self.residual = (self.predicted - np.log(seconds)) / NOISE
        self.prior = (x - space.mean) / space.spread
        surprise = (TAIL + 1) / 2 * np.log1p(self.residual**2 / TAIL)
        self.cost = float(np.sum(weights * surprise) + np.sum(self.prior**2) / 2)

    def step(self, damping: float) -> Array:
        """Damped Gauss-Newton (Levenberg-Marquardt), each run weighted by what Student's t makes of its residual."""
        jacobian = self.space.jacobian(self._derivative()) / NOISE
        weight = self.weights * (TAIL + 1) / (TAIL + self.residual**2)
        curvature = (jacobian * weight[:, None]).T @ jacobian + np.diag(1 / self.space.spread**2)
        slope = jacobian.T @ (weight * self.residual) + self.prior / self.space.spread
        curvature[np.diag_indices_from(curvature)] *= 1 + damping
        return -np.asarray(scipy.linalg.solve(curvature, slope, assume_a="pos"))

    def _derivative(self) -> Array:
        columns = []
        for number in range(len(NAMES)):
            moved = self.logarithms.copy()
            moved[:, number] += STEP
            columns.append((np.log(self.model(constants_from(moved))) - self.predicted) / STEP)
        return np.stack(columns, axis=1)
