"""Forecasts of a table of runs, each beside what was measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from tenfold.planner.calibration import MOST_MEASURED, Calibrated
from tenfold.planner.calibration.measured import family_of, levels_of
from tenfold.planner.cost.memory import Memory, MemoryConstants, memory_bytes
from tenfold.planner.cost.numbers import Array
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.hardware import accelerator
from tenfold.planner.rows import Run, device_of, layout_of, shape_of

USABLE = 0.96
"""Share of a device's memory beyond which a run is forecast to fail. Of 1,758 published runs on 80 GB the fullest held
97%; a plan leaves more room (`search.question.MEMORY_SHARE`)."""


@dataclass(frozen=True)
class Answer:
    """One row's forecast. Seconds and bytes; errors are forecast / measured − 1, None where nothing was measured."""

    row: str
    family: str
    model: str
    step_seconds: float
    low: float
    high: float
    """The 90% interval of the step time."""
    memory_bytes: float
    memory_low: float
    memory_high: float
    memory_parts: dict[str, float]
    out_of_memory: bool
    """Whether the forecast is more than the device can give."""
    extrapolation: bool
    """Whether the run is larger than anything that has been measured."""
    measured_seconds: float | None
    error: float | None
    inside: bool | None
    """Whether the measured step time lies in the interval."""
    measured_memory_bytes: float | None
    memory_error: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def forecast_seconds(runs: Sequence[Run], calibrated: Calibrated) -> Array:
    """Step time of each run."""
    constants = calibrated.time.constants(levels_of(runs))
    return np.asarray(step_seconds(shape_of(runs), layout_of(runs), device_of(runs), constants).total, dtype=np.float64)


def forecast_memory(runs: Sequence[Run], calibrated: Calibrated) -> Memory:
    """Peak memory of each run, by part."""
    each = [calibrated.memory_constants(run.framework) for run in runs]
    constants = MemoryConstants(
        **{part.name: np.array([getattr(one, part.name) for one in each]) for part in fields(MemoryConstants)}
    )
    return memory_bytes(shape_of(runs), layout_of(runs), constants)


def answer(
    runs: Sequence[Run], calibrated: Calibrated, seconds: Array | None = None, widths: Array | None = None
) -> list[Answer]:
    """Forecast each run; `seconds` and half-widths of intervals of another calibration take the place of its own."""
    if not runs:
        return []
    if seconds is None:
        seconds = forecast_seconds(runs, calibrated)
    if widths is None:
        widths = np.array([_width(run, calibrated) for run in runs])
    parts = {name: np.broadcast_to(part, len(runs)) for name, part in vars(forecast_memory(runs, calibrated)).items()}
    return [
        _answer(
            run,
            float(seconds[number]),
            float(widths[number]),
            {name: float(part[number]) for name, part in parts.items()},
            calibrated,
        )
        for number, run in enumerate(runs)
    ]


def _width(run: Run, calibrated: Calibrated) -> float:
    name = accelerator(run.hardware).name
    return calibrated.half_width(run.framework, run.devices, experts=run.experts > 0, accelerator=name)


def _answer(run: Run, seconds: float, width: float, parts: dict[str, float], calibrated: Calibrated) -> Answer:
    low, high = seconds * np.exp(-width), seconds * np.exp(width)
    held = sum(parts.values())
    spread = np.exp(calibrated.memory_half_width(run.framework))
    return Answer(
        row=run.name,
        family=family_of(run),
        model=run.model,
        step_seconds=seconds,
        low=float(low),
        high=float(high),
        memory_bytes=held,
        memory_low=float(held / spread),
        memory_high=float(held * spread),
        memory_parts=parts,
        out_of_memory=held > USABLE * accelerator(run.hardware).memory_bytes,
        extrapolation=run.devices > MOST_MEASURED,
        measured_seconds=run.step_seconds,
        error=None if run.step_seconds is None else seconds / run.step_seconds - 1,
        inside=None if run.step_seconds is None else bool(low <= run.step_seconds <= high),
        measured_memory_bytes=run.memory_bytes,
        memory_error=None if run.memory_bytes is None else held / run.memory_bytes - 1,
    )
