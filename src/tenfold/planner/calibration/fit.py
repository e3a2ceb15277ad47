"""Fit of the cost model's constants to measured runs: of time, and of memory.

Time is a hierarchy of means and deviations, found as the most probable one given measured runs. Each run's constants
are the means, times what its framework, site, accelerator and release deviate. As these are sums in logarithms, one
derivative for each constant and run serves all levels, so a fit costs some hundreds of evaluations of the cost model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from tenfold.planner.calibration.arrays import LEVELS, MeasuredRuns, RunLevels, layouts_of, shapes_of
from tenfold.planner.calibration.priors import constants_from, prior_means, prior_spreads
from tenfold.planner.calibration.readings import COUNTED_SPREAD, chance_to_fit
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.cost.device import CONSTANT_NAMES, Constants
from tenfold.planner.cost.layout import Array
from tenfold.planner.cost.memory import MemoryConstants, memory_bytes
from tenfold.planner.hardware.accelerator import accelerator

Model = Callable[[Constants], Array]
"""Seconds of each run, given an array of each constant."""
_STEP = 1e-4
_ROUNDS = 60
_NOISE = 0.07
"""Spread of a measurement around the best model of this kind, in logarithms."""
_TAIL = 3.0
"""Degrees of freedom of Student's t: published tables hold a few rows that no model explains."""


@dataclass(frozen=True)
class FittedConstants:
    """Means and deviations, all logarithms, in the order of `Constants`."""

    mean: Array
    deviations: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)

    def constants(self, levels: RunLevels) -> Constants:
        """Constants of each run; a label that was never seen does not deviate."""
        return constants_from(self.logarithms(levels))

    def logarithms(self, levels: RunLevels) -> Array:
        """Logarithms of the constants of each run: shape (runs, constants)."""
        return np.stack([self._row(levels, number) for number in range(len(levels))])

    def one(self, **labels: str) -> Array:
        """Logarithms of the constants for one framework, site, accelerator...: shape (constants,)."""
        total = self.mean.copy()
        for level, label in labels.items():
            total = total + self.deviations.get(level, {}).get(label, 0.0)
        return total

    def _row(self, levels: RunLevels, number: int) -> Array:
        total = self.mean.copy()
        for level in LEVELS:
            total = total + self.deviations.get(level, {}).get(levels.labels[level][number], 0.0)
        return total


def fit_constants(model: Model, seconds: Array, levels: RunLevels, weights: Array) -> FittedConstants:
    """The most probable calibration. `weights` (runs,) say how much each run counts; 1 is one measurement.

    It always starts from the priors: started from a calibration that had seen held-out runs, it would stop near it.
    """
    space = _Space(levels)
    damping = 1e-3
    best = _Point(space.mean.copy(), space, model, seconds, weights)
    for _ in range(_ROUNDS):
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


def fit_runs(known: MeasuredRuns) -> FittedConstants:
    """The most probable calibration of measured runs."""
    chosen = known.take(known.fitted)
    return fit_constants(chosen.model, chosen.seconds, chosen.levels, chosen.weights)


class _Space:
    """Where each free number of the fit lies: first the means, then the deviations that may be other than nothing."""

    def __init__(self, levels: RunLevels) -> None:
        constants: list[int] = list(range(len(CONSTANT_NAMES)))
        spread = list(prior_spreads("spread"))
        members: list[Array] = [np.ones(len(levels), dtype=bool)] * len(CONSTANT_NAMES)
        self.owners: list[tuple[str, str]] = [("", "")] * len(CONSTANT_NAMES)
        for level in LEVELS:
            allowed = prior_spreads(level)
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
        self._by_constant = np.argsort(self.constant, kind="stable")
        self._sorted_member = self.member[:, self._by_constant]
        self._begins = np.searchsorted(self.constant[self._by_constant], np.arange(len(CONSTANT_NAMES)))
        self.mean = np.concatenate([prior_means(), np.zeros(len(constants) - len(CONSTANT_NAMES))])

    def logarithms(self, x: Array) -> Array:
        """Logarithms of each run's constants: shape (runs, constants)."""
        return np.asarray(np.add.reduceat(self._sorted_member * x[self._by_constant], self._begins, axis=1))

    def jacobian(self, derivative: Array) -> Array:
        """One column for each free number, from d log(seconds) / d log(constant), shape (runs, constants)."""
        return derivative[:, self.constant] * self.member

    def unpack(self, x: Array) -> FittedConstants:
        deviations: dict[str, dict[str, Array]] = {level: {} for level in LEVELS}
        for value, number, (level, label) in zip(x, self.constant, self.owners, strict=True):
            if level:
                deviations[level].setdefault(label, np.zeros(len(CONSTANT_NAMES)))[number] = value
        return FittedConstants(x[: len(CONSTANT_NAMES)].copy(), deviations)


class _Point:
    """One place of the search: how improbable it is, and where to go from there."""

    def __init__(self, x: Array, space: _Space, model: Model, seconds: Array, weights: Array) -> None:
        self.x, self.space, self.model, self.weights = x, space, model, weights
        self.logarithms = space.logarithms(x)
        self.predicted = np.log(model(constants_from(self.logarithms)))
        self.residual = (self.predicted - np.log(seconds)) / _NOISE
        self.prior = (x - space.mean) / space.spread
        surprise = (_TAIL + 1) / 2 * np.log1p(self.residual**2 / _TAIL)
        self.cost = float(np.sum(weights * surprise) + np.sum(self.prior**2) / 2)

    def step(self, damping: float) -> Array:
        """Damped Gauss-Newton (Levenberg-Marquardt), each run weighted by what Student's t makes of its residual."""
        jacobian = self.space.jacobian(self._derivative()) / _NOISE
        weight = self.weights * (_TAIL + 1) / (_TAIL + self.residual**2)
        curvature = (jacobian * weight[:, None]).T @ jacobian + np.diag(1 / self.space.spread**2)
        slope = jacobian.T @ (weight * self.residual) + self.prior / self.space.spread
        curvature[np.diag_indices_from(curvature)] *= 1 + damping
        from scipy.linalg import solve  # plans read a calibration, and start without what fits one

        return -np.asarray(solve(curvature, slope, assume_a="pos"))

    def _derivative(self) -> Array:
        columns = []
        for number in range(len(CONSTANT_NAMES)):
            moved = self.logarithms.copy()
            moved[:, number] += _STEP
            columns.append((np.log(self.model(constants_from(moved))) - self.predicted) / _STEP)
        return np.stack(columns, axis=1)


COUNTED = MemoryConstants(
    width=6.5,
    hidden=1.5,
    gathered=0.1,
    logits=6.0,
    logits_again=0.1,
    gradient_bytes=4.0,
    optimizer_bytes=12.0,
    base=2e9,
)
"""Counted from first principles, for frameworks whose memory nobody published.

With fused attention and norms a layer keeps both norms' inputs and outputs, queries, keys and values, and attention's
output (6.5 widths); of a gated MLP gate, up and their product (1.5 times both inner matrices). Logits are kept in 16
bits and in fp32, gradients are summed in fp32, Adam keeps an fp32 weight and two moments (Korthikanti et al., arXiv
2205.05198, section 4.1; Rajbhandari et al., arXiv 1910.02054, section 3.1). 2 GB are context and communication buffers.
Of 2,127 published runs of other frameworks, all of which ran, this says so of 95%; most others are of pages that do not
print how much is recomputed.
"""
_MEMORY_SPREAD = 0.4
_STATE_SPREAD = 0.1
"""Of bytes for each parameter, which do follow from what an optimizer keeps: else few rows of one layout move them."""
_MEMORY_NOISE = 0.1
_MEMORY_NAMES = tuple(each.name for each in fields(MemoryConstants))


def fit_memory(runs: Sequence[MeasuredRun]) -> MemoryConstants:
    """The most probable constants, given runs whose peak memory was measured; what is counted if none was."""
    chosen = [run for run in runs if run.memory_bytes is not None]
    if not chosen:
        return COUNTED
    from scipy.optimize import least_squares

    shape, layout = shapes_of(chosen), layouts_of(chosen)
    seen = np.log(np.array([run.memory_bytes for run in chosen], dtype=np.float64))
    origin = np.log([getattr(COUNTED, name) for name in _MEMORY_NAMES])
    state = ("gradient_bytes", "optimizer_bytes")
    spreads = np.array([_STATE_SPREAD if name in state else _MEMORY_SPREAD for name in _MEMORY_NAMES])

    def residuals(x: Array) -> Array:
        told = np.log(np.asarray(memory_bytes(shape, layout, _memory_constants(x)).total))
        return np.concatenate([(told - seen) / _MEMORY_NOISE, (x - origin) / spreads])

    return _memory_constants(least_squares(residuals, origin, loss="cauchy").x)


def settled(runs: Sequence[MeasuredRun]) -> list[MeasuredRun]:
    """The runs, each in the likeliest of its readings, seen that it fitted in memory."""
    return [_settled(run) if run.readings else run for run in runs]


def _settled(run: MeasuredRun) -> MeasuredRun:
    each = [replace(run, layout=layout, readings=()) for layout, _ in run.readings]
    capacity = accelerator(run.hardware).memory_bytes
    fits = chance_to_fit(forecast_memory_bytes(each, COUNTED), capacity, COUNTED_SPREAD)
    weight = np.array([usual for _, usual in run.readings]) * fits
    chosen = int(np.argmax(weight))
    return replace(run, layout=run.readings[chosen][0], certainty=float(weight[chosen] / weight.sum()))


def forecast_memory_bytes(runs: Sequence[MeasuredRun], constants: MemoryConstants) -> Array:
    """Forecast peak bytes of each run: shape (runs,)."""
    return np.asarray(memory_bytes(shapes_of(runs), layouts_of(runs), constants).total, dtype=np.float64)


def memory_held_out(runs: Sequence[MeasuredRun], key: Callable[[MeasuredRun], str]) -> Array:
    """Forecast bytes of each run by constants fitted to runs with another `key`. All runs must have been measured."""
    told = np.empty(len(runs))
    keys = np.array([key(run) for run in runs])
    for each in sorted(set(keys)):
        out = keys == each
        constants = fit_memory([run for run, skip in zip(runs, out, strict=True) if not skip])
        these = [run for run, take in zip(runs, out, strict=True) if take]
        told[out] = forecast_memory_bytes(these, constants)
    return told


def _memory_constants(logarithms: Array) -> MemoryConstants:
    return MemoryConstants(**{name: float(np.exp(x)) for name, x in zip(_MEMORY_NAMES, logarithms, strict=True)})
