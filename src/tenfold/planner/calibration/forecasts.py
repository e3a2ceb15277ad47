"""Forecasts of a table of runs, each beside what was measured, and their errors by family."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from tenfold.core import MISSING, text_table
from tenfold.planner.calibration.arrays import devices_of, family_of, layouts_of, levels_of, shapes_of
from tenfold.planner.calibration.calibrated import MOST_MEASURED, Calibrated
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.cost.layout import Array
from tenfold.planner.cost.memory import Memory, MemoryConstants, memory_bytes
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.hardware.accelerator import accelerator

USABLE = 0.96
"""Share of a device's memory beyond which a run is forecast to fail. Of 1,758 published runs on 80 GB the fullest held
97%; a plan leaves more room (`search.question.MEMORY_SHARE`)."""


@dataclass(frozen=True)
class RowForecast:
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
        """The record as JSON values."""
        return asdict(self)


def forecast_seconds(runs: Sequence[MeasuredRun], calibrated: Calibrated) -> Array:
    """Forecast seconds of one step of each run: shape (runs,)."""
    constants = calibrated.time.constants(levels_of(runs))
    return np.asarray(
        step_seconds(shapes_of(runs), layouts_of(runs), devices_of(runs), constants).total, dtype=np.float64
    )


def forecast_memory_parts(runs: Sequence[MeasuredRun], calibrated: Calibrated) -> Memory:
    """Peak memory of each run, by part."""
    each = [calibrated.memory_constants(run.framework) for run in runs]
    constants = MemoryConstants(
        **{part.name: np.array([getattr(one, part.name) for one in each]) for part in fields(MemoryConstants)}
    )
    return memory_bytes(shapes_of(runs), layouts_of(runs), constants)


def forecast_rows(
    runs: Sequence[MeasuredRun], calibrated: Calibrated, seconds: Array | None = None, widths: Array | None = None
) -> list[RowForecast]:
    """Forecast each run; `seconds` and half-widths of intervals of another calibration take the place of its own."""
    if not runs:
        return []
    if seconds is None:
        seconds = forecast_seconds(runs, calibrated)
    if widths is None:
        widths = np.array([_width(run, calibrated) for run in runs])
    parts = {
        name: np.broadcast_to(part, len(runs)) for name, part in vars(forecast_memory_parts(runs, calibrated)).items()
    }
    return [
        _forecast_row(
            run,
            float(seconds[number]),
            float(widths[number]),
            {name: float(part[number]) for name, part in parts.items()},
            calibrated,
        )
        for number, run in enumerate(runs)
    ]


def _width(run: MeasuredRun, calibrated: Calibrated) -> float:
    name = accelerator(run.hardware).name
    return calibrated.half_width(run.framework, run.devices, experts=run.experts, accelerator=name)


def _forecast_row(
    run: MeasuredRun, seconds: float, width: float, parts: dict[str, float], calibrated: Calibrated
) -> RowForecast:
    low, high = seconds * np.exp(-width), seconds * np.exp(width)
    held = sum(parts.values())
    spread = np.exp(calibrated.memory_half_width(run.framework))
    return RowForecast(
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


@dataclass(frozen=True)
class RelativeErrors:
    """Median, mean (MAPE) and 90th percentile of |forecast / measured − 1|, and its median with the sign (bias)."""

    rows: int
    median: float
    mape: float
    p90: float
    bias: float


@dataclass(frozen=True)
class FamilySummary:
    """One family's step times, beside constant utilisation on the same rows, and its memory where it was measured."""

    family: str
    time: RelativeErrors
    coverage: float | None
    """Share of the measured step times inside the 90% interval; None where no interval could be made without them."""
    constant_mfu: RelativeErrors | None
    memory: RelativeErrors | None

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


def relative_errors(forecast: Array, seen: Array) -> RelativeErrors:
    """Errors of forecasts against what was measured: arrays of shape (rows,)."""
    relative = forecast / seen - 1
    size = np.abs(relative)
    return RelativeErrors(
        rows=len(relative),
        median=float(np.median(size)),
        mape=float(size.mean()),
        p90=float(np.quantile(size, 0.9)),
        bias=float(np.median(relative)),
    )


def family_table(summaries: Sequence[FamilySummary]) -> list[str]:
    """For people: one line for each family."""
    return text_table(_HEADS, [_cells(each) for each in summaries], drop_empty=True)


_HEADS = (
    *("family", "rows", "median", "MAPE", "P90", "bias", "in 90%"),
    *("constant MFU: median", "MAPE", "P90", "memory: median", "MAPE"),
)


def _cells(summary: FamilySummary) -> list[str]:
    """Cells of one line; a figure that is not known is empty or a dash."""
    time, plain, memory = summary.time, summary.constant_mfu, summary.memory
    cells = [summary.family, f"{time.rows}", *(f"{share:.1%}" for share in (time.median, time.mape, time.p90))]
    cells += [f"{time.bias:+.1%}", MISSING if summary.coverage is None else f"{summary.coverage:.0%}"]
    cells += [f"{share:.1%}" for share in (plain.median, plain.mape, plain.p90)] if plain else [MISSING] * 3
    return cells + ([f"{memory.median:.1%}", f"{memory.mape:.1%}"] if memory else ["", ""])
