"""Forecasts of a table of runs, each beside what was measured, and their errors by family."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from tenfold.core import MISSING, text_table
from tenfold.planner.calibration.arrays import devices_of, family_of, layouts_of, levels_of, shapes_of
from tenfold.planner.calibration.calibrated import MOST_MEASURED, NINETY, Calibrated
from tenfold.planner.calibration.readings import USABLE, chance_to_fit
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.calibration.widths import sensitivities, unseen_levels
from tenfold.planner.cost.layout import Array
from tenfold.planner.cost.memory import Memory, MemoryConstants, memory_bytes
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.hardware.accelerator import accelerator


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
    """Whether the forecast is more than the device can give, in every usual way to read the row."""
    readings: int
    """Ways in which the row can be read: 1 where it says all."""
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
    if widths is None:
        widths = own_widths(runs, calibrated)
    read = read_all(runs, calibrated)
    if seconds is None:
        seconds = read.seconds
    return [
        _forecast_row(
            run,
            float(seconds[number]),
            float(np.hypot(widths[number], NINETY * read.spread[number])),
            read.memory[number],
            calibrated,
        )
        for number, run in enumerate(runs)
    ]


def own_widths(runs: Sequence[MeasuredRun], calibrated: Calibrated) -> Array:
    """Half-width of the 90% interval of each run that says all: shape (runs,)."""
    levels, (shape, layout, device) = levels_of(runs), (shapes_of(runs), layouts_of(runs), devices_of(runs))
    base = np.array([calibrated.half_width(run.framework, run.devices, experts=run.experts) for run in runs])
    sensitivity = sensitivities(
        lambda constants: np.asarray(step_seconds(shape, layout, device, constants).total, dtype=np.float64),
        calibrated.time.logarithms(levels),
    )
    makers = {run.hardware: not calibrated.knows_maker(accelerator(run.hardware)) for run in runs}
    new = unseen_levels(levels, calibrated.time.deviations)
    return calibrated.half_widths(base, sensitivity, new, np.array([makers[run.hardware] for run in runs]))


LIKED = 2.0
"""Power of the speed with which a reading that is faster is likelier: who measures has looked for a good layout."""


@dataclass(frozen=True)
class ReadMemory:
    """Memory of a run over its readings: parts in bytes, the spread of their sum, and whether none of them fits."""

    parts: dict[str, float]
    spread: float
    too_large: bool


@dataclass(frozen=True)
class ReadRuns:
    """Forecasts of runs over all their readings."""

    seconds: Array
    """Geometric mean of the readings, each weighted by how likely it is: shape (runs,)."""
    spread: Array
    """Standard deviation between readings, in logarithms; 0 where a row says all."""
    memory: list[ReadMemory]


def read_all(runs: Sequence[MeasuredRun], calibrated: Calibrated) -> ReadRuns:
    """Time and memory of each run in each of its readings, weighed."""
    several = [run.readings or ((run.layout, 1.0),) for run in runs]
    flat = [
        replace(run, layout=layout, readings=())
        for run, layouts in zip(runs, several, strict=True)
        for layout, _ in layouts
    ]
    times = forecast_seconds(flat, calibrated)
    memory = forecast_memory_parts(flat, calibrated)
    held = {name: np.broadcast_to(np.asarray(part, np.float64), len(flat)) for name, part in vars(memory).items()}
    total = np.asarray(sum(held.values()))
    ends = np.cumsum([len(layouts) for layouts in several])
    seconds, spread, found = np.empty(len(runs)), np.empty(len(runs)), []
    for number, (run, layouts) in enumerate(zip(runs, several, strict=True)):
        here = slice(int(ends[number]) - len(layouts), int(ends[number]))
        usual = np.array([weight for _, weight in layouts])
        capacity = accelerator(run.hardware).memory_bytes
        large = total[here] > USABLE * capacity
        weight = usual
        if len(layouts) > 1:
            fits = chance_to_fit(total[here], capacity, calibrated.memory_half_width(run.framework) / NINETY)
            weight = usual * fits * (times[here].min() / times[here]) ** LIKED
            weight = weight / weight.sum()
        seconds[number], spread[number] = _mean_and_spread(times[here], weight)
        parts = {name: float(weight @ part[here]) for name, part in held.items()}
        found.append(ReadMemory(parts, _mean_and_spread(total[here], weight)[1], bool(large.all())))
    return ReadRuns(seconds, spread, found)


def _mean_and_spread(values: Array, weight: Array) -> tuple[float, float]:
    """Geometric mean, and standard deviation in logarithms; of one value itself and 0."""
    if len(values) == 1:
        return float(values[0]), 0.0
    logs = np.log(values)
    mean = float(weight @ logs)
    return float(np.exp(mean)), float(np.sqrt(weight @ (logs - mean) ** 2))


def _forecast_row(
    run: MeasuredRun, seconds: float, width: float, memory: ReadMemory, calibrated: Calibrated
) -> RowForecast:
    low, high = seconds * np.exp(-width), seconds * np.exp(width)
    held = sum(memory.parts.values())
    spread = np.exp(np.hypot(calibrated.memory_half_width(run.framework), NINETY * memory.spread))
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
        memory_parts=memory.parts,
        out_of_memory=memory.too_large,
        readings=max(1, len(run.readings)),
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
    *("constant MFU: median", "P90", "memory: median", "MAPE"),
)


def _cells(summary: FamilySummary) -> list[str]:
    """Cells of one line; a figure that is not known is empty or a dash."""
    time, plain, memory = summary.time, summary.constant_mfu, summary.memory
    cells = [summary.family, f"{time.rows}", *(f"{share:.1%}" for share in (time.median, time.mape, time.p90))]
    cells += [f"{time.bias:+.1%}", MISSING if summary.coverage is None else f"{summary.coverage:.0%}"]
    cells += [f"{share:.1%}" for share in (plain.median, plain.p90)] if plain else [MISSING] * 2
    return cells + ([f"{memory.median:.1%}", f"{memory.mape:.1%}"] if memory else ["", ""])
