"""The calibration that tenfold ships, and how it is made from a table of measured runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.errors import InputError
from tenfold.planner.calibration.fit import Calibration, fit
from tenfold.planner.calibration.held_out import Told, half_width, half_widths, held_out
from tenfold.planner.calibration.measured import Measured, measured
from tenfold.planner.calibration.memory import fit_memory, memory_held_out
from tenfold.planner.calibration.prior import LEVELS
from tenfold.planner.cost.constants import NAMES, Constants
from tenfold.planner.cost.memory import MemoryConstants
from tenfold.planner.rows import Run

FORMAT = 1
MOST_MEASURED = 50_000
"""Devices beyond which nobody has published a measurement: forecasts beyond say that they extrapolate."""
WIDER_PER_DOUBLING = 0.05
"""What an interval grows by, in logarithms, for each doubling of the devices beyond the most in the calibration."""
NEVER_SEEN = ""


@dataclass(frozen=True)
class Calibrated:
    """Constants of time and memory, and how far forecasts with them were off on shapes that they had not seen."""

    time: Calibration
    memory: MemoryConstants
    widths: Mapping[str, float]
    """Half-width of the 90% interval, in logarithms, for each framework, with experts apart, and for NEVER_SEEN."""
    memory_width: float
    most_devices: int
    """Devices of the largest run in it."""

    def constants(self, framework: str = "", accelerator: str = "", *, experts: bool = False) -> Constants:
        """Constants of time for one framework on one accelerator, and a model with or without experts."""
        kind = "with" if experts else "without"
        return self.time.one(framework=framework, accelerator=accelerator, experts=kind)

    def half_width(self, framework: str, devices: float, *, experts: bool = False) -> float:
        """Half-width of the 90% interval of step time, in logarithms: from t · exp(−w) to t · exp(w)."""
        width = self.widths.get(width_group(framework, experts), self.widths[NEVER_SEEN])
        return width + WIDER_PER_DOUBLING * max(0.0, float(np.log2(devices / self.most_devices)))

    def frameworks(self) -> list[str]:
        """Those with deviations of their own."""
        return sorted(self.time.deviations.get("framework", {}))


def calibrate(runs: Sequence[Run], told: Told = lambda done, of: None) -> Calibrated:
    """Fit everything to `runs`; interval widths come from holding out one model shape after another."""
    known = measured(runs)
    time = fit(known.model, known.seconds, known.levels, known.weights)
    unseen = held_out(known, lambda run: run.shape_key, told)
    widths = half_widths(unseen, known.seconds, [width_group(run.framework, run.experts > 0) for run in known.runs])
    return Calibrated(
        time=time,
        memory=fit_memory(runs),
        widths=widths | {NEVER_SEEN: _width_of_strangers(known)},
        memory_width=_memory_width(runs),
        most_devices=int(max(run.devices for run in known.runs)),
    )


def width_group(framework: str, experts: bool) -> str:
    """What interval widths are kept by: models with experts are forecast far worse than dense ones."""
    return f"{framework}, experts" if experts else framework


def _width_of_strangers(known: Measured) -> float:
    """For a framework that was never seen: the median over frameworks, each forecast from the others alone."""
    alone = held_out(known, lambda run: run.framework)
    widths = half_widths(alone, known.seconds, [run.framework for run in known.runs])
    return float(np.median(list(widths.values())))


def _memory_width(runs: Sequence[Run]) -> float:
    """Half-width of the 90% interval of memory, from shapes held out; as wide as twice where nothing was measured."""
    known = [run for run in runs if run.memory_bytes is not None]
    forecast = memory_held_out(known, lambda run: run.shape_key)
    if not len(forecast):
        return float(np.log(2))
    return half_width(np.log(forecast / np.array([run.memory_bytes for run in known], dtype=np.float64)))


def write(calibrated: Calibrated, path: Path) -> None:
    """As JSON."""
    record = {
        "format": FORMAT,
        "constants": list(NAMES),
        "mean": _rounded(calibrated.time.mean),
        "deviations": {
            level: {label: _rounded(values) for label, values in labels.items()}
            for level, labels in calibrated.time.deviations.items()
        },
        "memory": asdict(calibrated.memory),
        "widths": dict(calibrated.widths),
        "memory_width": calibrated.memory_width,
        "most_devices": calibrated.most_devices,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Calibrated:
    """From JSON. Raises InputError when the file is no calibration of this version."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a calibration of this version of tenfold; make it again") from error


@cache
def shipped() -> Calibrated:
    """The one that comes with tenfold."""
    return _parse(files("tenfold.planner.calibration").joinpath("calibration.json").read_text(encoding="utf-8"))


def _parse(text: str) -> Calibrated:
    record: dict[str, Any] = json.loads(text)
    if record["format"] != FORMAT or tuple(record["constants"]) != NAMES:
        raise ValueError("another version")
    deviations = {
        level: {label: np.array(values) for label, values in record["deviations"][level].items()} for level in LEVELS
    }
    return Calibrated(
        time=Calibration(np.array(record["mean"]), deviations),
        memory=MemoryConstants(**record["memory"]),
        widths=record["widths"],
        memory_width=record["memory_width"],
        most_devices=record["most_devices"],
    )


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 5) for value in values]
