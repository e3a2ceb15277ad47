"""The calibration that tenfold ships, how it is made from measured runs, and how wide intervals must be.

Interval widths come from forecasts of runs that the fit has not seen.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from tenfold.core import InputError, write_json
from tenfold.planner.calibration.arrays import LEVELS, MeasuredRuns, measured_runs
from tenfold.planner.calibration.fit import (
    COUNTED,
    FittedConstants,
    fit_constants,
    fit_memory,
    forecast_memory_bytes,
    memory_held_out,
)
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.cost.device import CONSTANT_NAMES, Constants
from tenfold.planner.cost.layout import Array
from tenfold.planner.cost.memory import MemoryConstants
from tenfold.planner.hardware.accelerator import Accelerator, accelerator

COVERAGE = 0.90
FEWEST = 10  # residuals below which those of all families count as well
Told = Callable[[int, int], None]
"""Progress of a fit or a search: done so far, and how many there are at most."""


def held_out(measured: MeasuredRuns, key: Callable[[MeasuredRun], str], told: Told = lambda done, of: None) -> Array:
    """Forecast seconds of each run, by a calibration fitted from the priors to all runs with another `key`."""
    keys = np.array([key(run) for run in measured.runs])
    different = sorted(set(keys))
    seconds = np.empty(len(measured))
    for number, each in enumerate(different):
        out = keys == each
        rest, these = measured.take(~out), measured.take(out)
        calibration = fit_constants(rest.model, rest.seconds, rest.levels, rest.weights)
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


FORMAT = 3
MOST_MEASURED = 50_000
"""Devices beyond which nobody has published a measurement: forecasts beyond say that they extrapolate."""
NINETY = NormalDist().inv_cdf(0.95)
"""Standard deviations from the middle to the end of a 90% interval."""
WIDER_PER_DOUBLING = 0.05
"""What an interval grows by, in logarithms, for each doubling of the devices beyond the most in the calibration."""
NEVER_SEEN = ""
STRANGE = "accelerator never seen"
REFERENCE = "H100-SXM"
"""Accelerator whose measured share of the peak another one's is compared with where no run on that one is known."""


@dataclass(frozen=True)
class Calibrated:
    """Constants of time and memory, and how far forecasts with them were off on shapes that they had not seen."""

    time: FittedConstants
    memory: Mapping[str, MemoryConstants]
    """Of each framework whose memory was measured."""
    widths: Mapping[str, float]
    """Half-width of the 90% interval, in logarithms, for each framework, with experts apart, and for NEVER_SEEN."""
    memory_widths: Mapping[str, float]
    """Half-width of the 90% interval of memory for each of these frameworks, and for NEVER_SEEN."""
    most_devices: int
    """Devices of the largest run in it."""

    def constants(self, framework: str = "", chip: Accelerator | None = None, *, experts: bool = False) -> Constants:
        """Constants of time for one framework on one accelerator, of the table or not; and a model with or without
        experts."""
        kind = "with" if experts else "without"
        constants = self.time.one(framework=framework, accelerator=chip.name if chip else "", experts=kind)
        if chip is None or self.knows(chip.name):
            return constants
        return replace(constants, matmul_efficiency=constants.matmul_efficiency * _beside_reference(chip))

    def knows(self, accelerator: str) -> bool:
        """Whether runs on this accelerator were calibrated with."""
        return accelerator in self.time.deviations.get("accelerator", {})

    def half_width(
        self, framework: str, devices: float, *, experts: bool = False, accelerator: str = REFERENCE
    ) -> float:
        """Half-width of the 90% interval of step time, in logarithms: from t · exp(−w) to t · exp(w)."""
        width = self.widths.get(width_group(framework, experts), self.widths[NEVER_SEEN])
        width = width if self.knows(accelerator) else float(np.hypot(width, self.widths[STRANGE]))
        return width + WIDER_PER_DOUBLING * max(0.0, float(np.log2(devices / self.most_devices)))

    def memory_constants(self, framework: str) -> MemoryConstants:
        """Constants of memory: fitted ones where its memory was measured, else counted ones."""
        return self.memory.get(framework, COUNTED)

    def memory_half_width(self, framework: str) -> float:
        """Half-width of the 90% interval of memory, in logarithms."""
        return self.memory_widths.get(framework, self.memory_widths[NEVER_SEEN])

    def frameworks(self) -> list[str]:
        """Names of the frameworks with deviations of their own."""
        return sorted(self.time.deviations.get("framework", {}))


def _beside_reference(chip: Accelerator) -> float:
    """Measured share of the peak of a large bf16 product, over that of the reference; 1 where nobody published it."""
    shares = [dict(each.achievable).get("bf16") for each in (chip, accelerator(REFERENCE))]
    return 1.0 if shares[0] is None or shares[1] is None else shares[0] / shares[1]


def calibrate(runs: Sequence[MeasuredRun], told: Told = lambda done, of: None) -> Calibrated:
    """Fit everything to `runs`; interval widths come from holding out one model shape after another."""
    known = measured_runs(runs)
    time = fit_constants(known.model, known.seconds, known.levels, known.weights)
    unseen = held_out(known, lambda run: run.shape_key, told)
    groups = [width_group(run.framework, run.experts) for run in known.runs]
    widths = half_widths(np.log(unseen / known.seconds), groups, [run.shape_key for run in known.runs])
    return Calibrated(
        time=time,
        memory=_fitted_memory(runs),
        widths=widths | _widths_of_strangers(known, widths),
        memory_widths=_memory_widths(runs),
        most_devices=int(max(run.devices for run in known.runs)),
    )


def width_group(framework: str, experts: bool) -> str:
    """Group of an interval width: models with experts are forecast far worse than dense ones."""
    return f"{framework}, experts" if experts else framework


def _widths_of_strangers(known: MeasuredRuns, widths: Mapping[str, float]) -> dict[str, float]:
    """For frameworks never seen: the median over frameworks, each forecast from the others alone.

    For accelerators never seen, what holding them out adds to a framework's own width, in quadrature: again the median.
    """
    shapes = [run.shape_key for run in known.runs]
    alone = np.log(held_out(known, lambda run: run.framework) / known.seconds)
    frameworks = half_widths(alone, [run.framework for run in known.runs], shapes)
    strange = np.log(held_out(known, lambda run: accelerator(run.hardware).name) / known.seconds)
    pairs = [(width_group(run.framework, run.experts), accelerator(run.hardware).name) for run in known.runs]
    wider = half_widths(strange, ["|".join(pair) for pair in pairs], shapes)
    added = [np.sqrt(max(0.0, wider["|".join(pair)] ** 2 - widths[pair[0]] ** 2)) for pair in sorted(set(pairs))]
    return {NEVER_SEEN: float(np.median(list(frameworks.values()))), STRANGE: float(np.median(added))}


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
        memory_widths=record["memory_widths"],
        most_devices=record["most_devices"],
    )


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]
