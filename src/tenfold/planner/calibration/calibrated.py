"""The calibration that tenfold ships, how it is made from measured runs, and how wide intervals must be.

Interval widths come from forecasts of runs that the fit has not seen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError, write_json
from tenfold.planner.calibration.arrays import LEVELS, NOISY, MeasuredRuns, measured_runs
from tenfold.planner.calibration.fit import (
    COUNTED,
    FittedConstants,
    fit_memory,
    fit_runs,
    forecast_memory_bytes,
    memory_held_out,
    settled,
)
from tenfold.planner.calibration.priors import constants_from
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.calibration.widths import (
    LEAST_FACTOR,
    UNSEEN,
    level_factor,
    sensitivities,
    spread_of_strangers,
    unseen_levels,
)
from tenfold.planner.cost.device import CONSTANT_NAMES, Constants
from tenfold.planner.cost.layout import Array
from tenfold.planner.cost.memory import MemoryConstants
from tenfold.planner.hardware.accelerator import Accelerator, accelerator

COVERAGE = 0.90
FEWEST = 10  # residuals below which those of all families count as well
Told = Callable[[int, int], None]
"""Progress of a fit or a search: done so far, and how many there are at most."""


@dataclass(frozen=True)
class HeldOutRuns:
    """Forecasts of runs by calibrations that were fitted from the priors to all runs with another key."""

    seconds: Array
    sensitivity: Array
    """Of each forecast to each constant: shape (runs, constants)."""
    unseen: Mapping[str, npt.NDArray[np.bool_]]
    """For each level the runs whose label the calibration did not know."""


def held_out(measured: MeasuredRuns, keys: Sequence[str], told: Told = lambda done, of: None) -> HeldOutRuns:
    """Fit without the runs of each key in turn, and forecast them."""
    labels = np.array(keys)
    different = sorted(set(keys))
    logarithms = np.empty((len(measured), len(CONSTANT_NAMES)))
    unseen = {level: np.zeros(len(measured), dtype=bool) for level in UNSEEN}
    for number, each in enumerate(different):
        out = labels == each
        calibration = fit_runs(measured.take(~out))
        levels = measured.levels.take(out)
        logarithms[out] = calibration.logarithms(levels)
        for level, new in unseen_levels(levels, calibration.deviations).items():
            unseen[level][out] = new
        told(number + 1, len(different))
    seconds = measured.model(constants_from(logarithms))
    return HeldOutRuns(seconds, sensitivities(measured.model, logarithms), unseen)


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
    """Half-width of each group. A group of few residuals borrows from those of all."""
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


FORMAT = 4
MOST_MEASURED = 50_000
"""Devices beyond which nobody has published a measurement: forecasts beyond say that they extrapolate."""
NINETY = NormalDist().inv_cdf(0.95)
"""Standard deviations from the middle to the end of a 90% interval."""
WIDER_PER_DOUBLING = 0.05
"""What an interval grows by, in logarithms, for each doubling of the devices beyond the most in the calibration."""
NEVER_SEEN = ""
NEW_MAKER = 2.0
"""Spread of an accelerator whose maker has no calibrated run, over that of the priors. The factors in `strangers` come
from accelerators of one maker, which share their libraries, and say nothing of another's."""
SURE = 0.5
"""Certainty of a row's reading beyond which it tells how far forecasts are off."""


@dataclass(frozen=True)
class Calibrated:
    """Constants of time and memory, and how far forecasts with them were off on shapes that they had not seen."""

    time: FittedConstants
    memory: Mapping[str, MemoryConstants]
    """Of each framework whose memory was measured."""
    widths: Mapping[str, float]
    """Half-width of the 90% interval of runs of which only the model's shape is new, in logarithms, for each framework,
    with experts apart, and for NEVER_SEEN."""
    strangers: Mapping[str, float]
    """For each level the factor on the spread that a new label adds (`calibration.widths`)."""
    memory_widths: Mapping[str, float]
    """Half-width of the 90% interval of memory for each of these frameworks, and for NEVER_SEEN."""
    most_devices: int
    """Devices of the largest run in it."""

    def constants(self, framework: str = "", chip: Accelerator | None = None, *, experts: bool = False) -> Constants:
        """Constants of time for one framework on one accelerator, of the table or not; and a model with or without
        experts."""
        return constants_from(self.logarithms(framework, chip, experts=experts))

    def logarithms(self, framework: str = "", chip: Accelerator | None = None, *, experts: bool = False) -> Array:
        """Logarithms of these constants: shape (constants,)."""
        kind = "with" if experts else "without"
        return self.time.one(framework=framework, accelerator=chip.name if chip else "", experts=kind)

    def knows(self, accelerator: str) -> bool:
        """Whether runs on this accelerator were calibrated with."""
        return accelerator in self.time.deviations.get("accelerator", {})

    def knows_maker(self, chip: Accelerator) -> bool:
        """Whether runs on some accelerator of the same maker were calibrated with."""
        known = self.time.deviations.get("accelerator", {})
        return chip.vendor.casefold() in {accelerator(name).vendor.casefold() for name in known}

    def half_width(self, framework: str, devices: float, *, experts: bool = False) -> float:
        """Half-width of the 90% interval of step time where only the model's shape is new, in logarithms: from
        t · exp(−w) to t · exp(w)."""
        width = _base(self.widths, framework, experts)
        return width + WIDER_PER_DOUBLING * max(0.0, float(np.log2(devices / self.most_devices)))

    def half_widths(
        self,
        base: Array,
        sensitivity: Array,
        unseen: Mapping[str, npt.NDArray[np.bool_]],
        makers: npt.NDArray[np.bool_],
    ) -> Array:
        """Half-widths with what is new besides: shape (runs,). `makers` says whose accelerator is of a new maker."""
        strange = makers * NINETY * NEW_MAKER * spread_of_strangers(sensitivity, "accelerator")
        return wider(np.hypot(base, strange), sensitivity, unseen, self.strangers)

    def memory_constants(self, framework: str) -> MemoryConstants:
        """Constants of memory: fitted ones where its memory was measured, else counted ones."""
        return self.memory.get(framework, COUNTED)

    def memory_half_width(self, framework: str) -> float:
        """Half-width of the 90% interval of memory, in logarithms."""
        return self.memory_widths.get(framework, self.memory_widths[NEVER_SEEN])

    def frameworks(self) -> list[str]:
        """Names of the frameworks with deviations of their own."""
        return sorted(self.time.deviations.get("framework", {}))


def _base(widths: Mapping[str, float], framework: str, experts: bool) -> float:
    stranger = widths.get(width_group(NEVER_SEEN, experts), widths[NEVER_SEEN])
    return widths.get(width_group(framework, experts), stranger)


def wider(
    base: Array,
    sensitivity: Array,
    unseen: Mapping[str, npt.NDArray[np.bool_]],
    factors: Mapping[str, float],
) -> Array:
    """Quadratic sum of a width and of what new labels add."""
    square = np.square(base)
    for level, factor in factors.items():
        square = square + unseen[level] * np.square(NINETY * factor * spread_of_strangers(sensitivity, level))
    return np.asarray(np.sqrt(square))


def calibrate(runs: Sequence[MeasuredRun], told: Told = lambda done, of: None) -> Calibrated:
    """Fit everything to `runs`; interval widths come from holding out one shape, site, framework... after another.

    A row that can be read in several ways counts as the likeliest of them, as much as that is likely.
    """
    known = measured_runs(settled(runs))
    keys = {"shape": [run.shape_key for run in known.runs], **{level: known.levels.labels[level] for level in UNSEEN}}
    several = {level: labels for level, labels in keys.items() if len(set(labels)) > 1}
    counted = _Counted(told, sum(len(set(labels)) for labels in several.values()))
    without = {level: held_out(known, labels, counted.next) for level, labels in several.items()}
    unseen = without["shape"].seconds if "shape" in without else known.model(fit_runs(known).constants(known.levels))
    widths = shape_widths(known, unseen)
    return Calibrated(
        time=fit_runs(known),
        memory=_fitted_memory(runs),
        widths=widths,
        strangers=stranger_factors(known, without, widths),
        memory_widths=_memory_widths(runs),
        most_devices=int(max(run.devices for run in known.runs)),
    )


class _Counted:
    """Progress over several rounds of fits, as one."""

    def __init__(self, told: Told, of: int) -> None:
        self._told, self._done, self._of = told, 0, of

    def next(self, done: int, of: int) -> None:
        """One more fit is done."""
        self._done += 1
        self._told(self._done, self._of)


def shape_widths(known: MeasuredRuns, unseen_seconds: Array) -> dict[str, float]:
    """Half-widths by framework, from forecasts of shapes that were held out. For other frameworks their median."""
    groups = [width_group(run.framework, run.experts) for run in known.runs]
    widths = half_widths(np.log(unseen_seconds / known.seconds), groups, [run.shape_key for run in known.runs])
    widths[NEVER_SEEN] = float(np.median([width for name, width in widths.items() if not name.endswith(EXPERTS)]))
    mixed = [width for name, width in widths.items() if name.endswith(EXPERTS)]
    return widths | ({width_group(NEVER_SEEN, True): float(np.median(mixed))} if mixed else {})


def stranger_factors(
    known: MeasuredRuns, without: Mapping[str, HeldOutRuns], widths: Mapping[str, float]
) -> dict[str, float]:
    """For each level, the factor with which nine of ten runs lie inside when its labels are held out in turn."""
    factors: dict[str, float] = {}
    for level in UNSEEN:
        out = without.get(level)
        factors[level] = 1.0 if out is None else stranger_factor(known, out, widths, level, factors)
    return factors


def stranger_factor(
    known: MeasuredRuns,
    out: HeldOutRuns,
    widths: Mapping[str, float],
    level: str,
    factors: Mapping[str, float],
    but: str = "",
) -> float:
    """The factor of one level, given those of others. Runs with the label `but` do not count.

    Nor do sweeps whose repeats differ by more than any calibration could tell (`arrays.NOISY`), and rows that hardly
    say how they were run.
    """
    labels = known.levels.labels[level]
    usable = np.array([family not in NOISY for family in known.families])
    usable &= np.array([run.certainty > SURE for run in known.runs])
    usable &= np.array([label != but for label in labels])
    least = LEAST_FACTOR.get(level, 0.0)
    if not usable.any():
        return max(least, 1.0)
    others = {name: factor for name, factor in factors.items() if name != level}
    left = np.square(np.log(out.seconds / known.seconds))
    left = left - np.square(wider(stranger_base(known, out, widths), out.sensitivity, out.unseen, others))
    own = NINETY * spread_of_strangers(out.sensitivity, level)
    needed = np.sqrt(np.maximum(left, 0.0)) / np.maximum(own, 1e-9)
    chosen = [label for label, use in zip(labels, usable, strict=True) if use]
    return max(least, level_factor(needed[usable], chosen, COVERAGE))


def stranger_base(known: MeasuredRuns, out: HeldOutRuns, widths: Mapping[str, float]) -> Array:
    """Half-width of each run before what is new to its calibration is counted: shape (runs,)."""
    new = out.unseen["framework"]
    return np.array(
        [
            _base(widths, NEVER_SEEN if strange else run.framework, run.experts)
            for run, strange in zip(known.runs, new, strict=True)
        ]
    )


EXPERTS = ", experts"


def width_group(framework: str, experts: bool) -> str:
    """Group of an interval width: models with experts are forecast far worse than dense ones."""
    return framework + EXPERTS if experts else framework


def _with_memory(runs: Sequence[MeasuredRun]) -> dict[str, list[MeasuredRun]]:
    """Runs whose memory was measured, by framework."""
    known: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        if run.memory_bytes is not None:
            known.setdefault(run.framework, []).append(run)
    return known


def _fitted_memory(runs: Sequence[MeasuredRun]) -> dict[str, MemoryConstants]:
    return {framework: fit_memory(known) for framework, known in _with_memory(runs).items()}


def _memory_widths(runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """From shapes held out; for other frameworks from what counting alone says of those that were measured."""
    widths, counted, shapes = {}, [], []
    for framework, known in _with_memory(runs).items():
        seen = np.array([run.memory_bytes for run in known], dtype=np.float64)
        keys = [run.shape_key for run in known]
        counted.append(np.log(forecast_memory_bytes(known, COUNTED) / seen))
        shapes += keys
        if len(set(keys)) > 1:
            widths[framework] = half_width(np.log(memory_held_out(known, lambda run: run.shape_key) / seen), keys)
    stranger = half_width(np.concatenate(counted), shapes) if counted else float(np.log(2))
    return widths | {NEVER_SEEN: stranger}


def write_calibration(calibrated: Calibrated, path: Path) -> None:
    """Write a calibration as JSON."""
    record = {
        "format": FORMAT,
        "constants": list(CONSTANT_NAMES),
        "mean": _rounded(calibrated.time.mean),
        "deviations": {
            level: {label: _rounded(values) for label, values in labels.items()}
            for level, labels in calibrated.time.deviations.items()
        },
        "memory": {framework: asdict(constants) for framework, constants in calibrated.memory.items()},
        "widths": dict(calibrated.widths),
        "strangers": dict(calibrated.strangers),
        "memory_widths": dict(calibrated.memory_widths),
        "most_devices": calibrated.most_devices,
    }
    write_json(path, record)


def read_calibration(path: Path) -> Calibrated:
    """Read a calibration from JSON. Raises InputError when the file is no calibration of this version."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a calibration of this version of tenfold; make it again") from error


@cache
def shipped_calibration() -> Calibrated:
    """The one that comes with tenfold."""
    return _parse(files("tenfold.planner.calibration").joinpath("calibration.json").read_text(encoding="utf-8"))


def _parse(text: str) -> Calibrated:
    record: dict[str, Any] = json.loads(text)
    if record["format"] != FORMAT or tuple(record["constants"]) != CONSTANT_NAMES:
        raise ValueError("another version")
    deviations = {
        level: {label: np.array(values) for label, values in record["deviations"][level].items()} for level in LEVELS
    }
    return Calibrated(
        time=FittedConstants(np.array(record["mean"]), deviations),
        memory={framework: MemoryConstants(**values) for framework, values in record["memory"].items()},
        widths=record["widths"],
        strangers=record["strangers"],
        memory_widths=record["memory_widths"],
        most_devices=record["most_devices"],
    )


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]
