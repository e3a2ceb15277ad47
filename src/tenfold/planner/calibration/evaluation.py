"""A planner against measured runs, beside what it has to beat: constant model FLOP/s utilisation."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError, count
from tenfold.planner.calibration.arrays import LEVELS, MeasuredRuns, levels_of, measured_runs
from tenfold.planner.calibration.calibrated import (
    HeldOutRuns,
    Told,
    held_out,
    shipped_calibration,
    stranger_base,
    stranger_factor,
    unseen_widths,
    wider,
    width_group,
)
from tenfold.planner.calibration.fit import fit_runs, memory_held_out, settled
from tenfold.planner.calibration.forecasts import (
    FamilySummary,
    RelativeErrors,
    RowForecast,
    family_table,
    forecast_rows,
    relative_errors,
)
from tenfold.planner.calibration.runs import MeasuredRun, SkippedRow, read_runs
from tenfold.planner.calibration.widths import UNSEEN
from tenfold.planner.cost.layout import Array


def constant_mfu_seconds(measured: MeasuredRuns, keys: Sequence[str]) -> Array:
    """Step time of each run if its family always had the utilisation of the median of its runs with other `keys`.

    Where a family has no others, all families' runs stand in; nan if there are none either.
    """
    families, key = np.array(measured.families), np.array(keys)
    ideal = _ideal_seconds(measured)
    slower = measured.seconds / ideal
    told = np.empty(len(measured))
    for family, each in sorted(set(zip(families, key, strict=True))):
        here = (families == family) & (key == each)
        others = (families == family) & (key != each)
        known = slower[others if others.any() else key != each]
        told[here] = ideal[here] * (np.median(known) if len(known) else np.nan)
    return told


def _ideal_seconds(measured: MeasuredRuns) -> Array:
    """At full utilisation, with the bubble (p − 1) / (v · m)."""
    layout, shape = measured.layout, measured.shape
    flops = layout.sequences * shape.context * shape.training_flops_per_token
    bubble = (layout.pipeline - 1) / (layout.interleaving * layout.accumulation)
    return np.asarray(flops / (measured.device.matmul_flops * layout.devices) * (1 + bubble))


HeldOut = Literal["shape", "source", "scale", "framework", "site", "accelerator", "release"]
HELD_OUT: tuple[HeldOut, ...] = ("shape", "source", "scale", "framework", "site", "accelerator", "release")
_SHOWN = 40  # rows that are printed one by one
WIDTH = 120
_SPAN = 4  # a family whose largest runs are to be told from its smaller ones has at least this range of sizes


@dataclass(frozen=True)
class Evaluation:
    """Every row's forecast, the rows that cannot be modelled, and a summary by family."""

    answers: list[RowForecast]
    skipped: list[SkippedRow]
    families: list[FamilySummary]
    everything: FamilySummary | None
    """All rows together; None where no row has a measured step time."""
    held_out: HeldOut | None

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        return {
            "held_out": self.held_out,
            "rows": [each.to_dict() for each in self.answers],
            "skipped": [vars(each) for each in self.skipped],
            "families": [each.to_dict() for each in self.families],
            "all": self.everything.to_dict() if self.everything else None,
        }

    def lines(self) -> list[str]:
        """The evaluation for people to read."""
        how = {
            None: "with the calibration that comes with tenfold (which has seen the published rows)",
            "shape": "each model shape forecast by a calibration that has not seen it",
            "source": "each source forecast by a calibration that has not seen it",
            "framework": "each framework forecast by a calibration that has not seen it",
            "site": "each site forecast by a calibration that has not seen it",
            "accelerator": "each accelerator forecast by a calibration that has not seen it",
            "release": "each release forecast by a calibration that has not seen it",
            "scale": "each family's largest runs forecast by a calibration that has not seen them",
        }[self.held_out]
        rows = len(self.answers) + len(self.skipped)
        lines = [
            f"{len(self.answers)} rows, {how}"
            if self.held_out
            else f"{len(self.answers)} of {rows} rows answered, {how}"
        ]
        read = sum(each.readings > 1 for each in self.answers)
        lines += [f"{read} of them leave cells blank: the mean of their usual readings, with wider intervals"] * (
            read > 0
        )
        if len(self.answers) <= _SHOWN:
            lines += [row_line(each) for each in self.answers] + [""]
        together = [self.everything] if self.everything and len(self.families) > 1 else []
        lines += family_table([*self.families, *together]) if self.families else ["no row has a measured step time"]
        return lines + _left_out(self.skipped)


def _left_out(skipped: Sequence[SkippedRow]) -> list[str]:
    """Every reason with all of its lines."""
    if not skipped:
        return []
    by_reason: dict[str, list[int]] = {}
    for row in skipped:
        by_reason.setdefault(row.reason, []).append(row.line)
    ranked = sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    lines = [f"line{'s' * (len(where) > 1)} {_ranges(where)}: {reason}" for reason, where in ranked]
    wrapped = [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="  ")]
    return ["", f"{count(len(skipped), 'row')} left out", *wrapped]


def _ranges(numbers: Sequence[int]) -> str:
    """3, 5-7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def row_line(told: RowForecast) -> str:
    """One row's forecast for people."""
    line = f"row {told.row:>6}  {told.model:24.24}  {told.step_seconds:9.4g} s ({told.low:.4g} to {told.high:.4g})"
    line += f"  {told.memory_bytes / 1e9:6.1f} GB" + ("  OUT OF MEMORY" if told.out_of_memory else "")
    line += f"  measured {told.measured_seconds:.4g} s, {told.error:+.1%}" if told.error is not None else ""
    return line + ("  extrapolation" if told.extrapolation else "")


def evaluate_rows(path: Path, out: HeldOut | None = None, told: Told = lambda done, of: None) -> Evaluation:
    """Forecast the rows of a CSV file. With `out`, constants are fitted to the file's own other rows.

    Raises InputError when a row is not what it must be, or when nothing is left to fit.
    """
    runs, skipped = read_runs(path)
    if not runs:
        raise InputError(f"{path}: no row that can be modelled ({_why(skipped)})")
    calibrated = shipped_calibration()
    known = measured_runs(settled(runs))
    if out is None:
        answers = forecast_rows(runs, calibrated)
        told_of = _seen(known, answers)
        return Evaluation(answers, skipped, _summaries(known, told_of), _together(known, told_of), None)
    chosen = _chosen(known, out, path)
    unseen = _unseen(known, chosen, out, told)
    kept = known.take(chosen)
    answers = forecast_rows(kept.runs, calibrated, unseen.seconds, unseen.widths)
    return Evaluation(answers, skipped, _summaries(kept, unseen), _together(kept, unseen), out)


@dataclass(frozen=True)
class _Forecasts:
    """Forecasts of measured runs, shape (runs,) each."""

    seconds: Array
    widths: Array | None
    """Half-widths of the 90% interval, in logarithms; None where no residual of runs that were not fitted gives one."""
    plain: Array
    """Constant utilisation."""
    memory: Array | None
    """Bytes; nan where no memory was measured. None where none was forecast without having been fitted to."""


def key_of(run: MeasuredRun, out: HeldOut | None) -> str:
    """Label of runs that are held out together: a repository or page as a whole, a model shape, or that of a level."""
    if out in LEVELS:
        return levels_of([run]).labels[str(out)][0]
    return run.source.split(" ")[0] if out == "source" else run.shape_key


def _seen(known: MeasuredRuns, answers: Sequence[RowForecast]) -> _Forecasts:
    """By the calibration that comes with tenfold: those of `answers` whose time was measured."""
    own = [each for each in answers if each.measured_seconds is not None]
    return _Forecasts(
        np.array([each.step_seconds for each in own]),
        np.array([np.log(each.high / each.step_seconds) for each in own]),
        constant_mfu_seconds(known, [run.name for run in known.runs]),
        np.array([each.memory_bytes for each in own]),
    )


def _unseen(known: MeasuredRuns, chosen: npt.NDArray[np.bool_], out: HeldOut, told: Told) -> _Forecasts:
    """Forecasts of the chosen runs, by constants that were fitted without them."""
    if out == "scale":
        rest, these = known.take(~chosen), known.take(chosen)
        seconds = these.model(fit_runs(rest).constants(these.levels))
        plain = constant_mfu_seconds(known, ["largest" if each else "rest" for each in chosen])
        return _Forecasts(seconds, None, plain[chosen], None)
    keys = [key_of(run, out) for run in known.runs]
    without = held_out(known, keys, told)
    seconds = without.seconds
    if out == "shape":
        groups = [width_group(run.framework, run.experts) for run in known.runs]
        widths = unseen_widths(np.log(seconds / known.seconds), groups, keys)
    else:
        widths = _stranger_widths(known, without, keys, out)
    return _Forecasts(seconds, widths, constant_mfu_seconds(known, keys), _unseen_memory(known, out))


def _stranger_widths(known: MeasuredRuns, without: HeldOutRuns, keys: Sequence[str], out: HeldOut) -> Array:
    """Half-widths with what is new to each run's calibration. What is held out takes the factor of other labels."""
    shipped = shipped_calibration()
    base = stranger_base(known, without, shipped.widths)
    widths = wider(base, without.sensitivity, without.unseen, shipped.strangers)
    if out not in UNSEEN:
        return widths
    for label in sorted(set(keys)):
        own = np.array([key == label for key in keys])
        factor = stranger_factor(known, without, shipped.widths, out, shipped.strangers, label)
        widths[own] = wider(base, without.sensitivity, without.unseen, {**shipped.strangers, out: factor})[own]
    return widths


def _unseen_memory(known: MeasuredRuns, out: HeldOut) -> Array:
    """By constants fitted to the framework's other shapes or sources, or counted where it has no others."""
    bytes_ = np.full(len(known), np.nan)
    seen = np.array([run.memory_bytes is not None for run in known.runs])
    for framework in sorted({run.framework for run in known.runs}):
        own = seen & np.array([run.framework == framework for run in known.runs])
        if own.any():
            bytes_[own] = memory_held_out(known.take(own).runs, lambda run: key_of(run, out))
    return bytes_


def _why(skipped: Sequence[SkippedRow]) -> str:
    return f"line {skipped[0].line}: {skipped[0].reason}" if skipped else "the table is empty"


def _chosen(known: MeasuredRuns, out: HeldOut, path: Path) -> npt.NDArray[np.bool_]:
    """Which runs are forecast."""
    different = {key_of(run, out) for run in known.runs}
    if out != "scale":
        if len(different) < 2:
            raise InputError(f"{path}: all measured rows have one {out}; nothing is left to fit when it is held out")
        return np.ones(len(known), dtype=bool)
    families, devices = np.array(known.families), np.array([run.devices for run in known.runs])
    chosen = np.zeros(len(known), dtype=bool)
    for family in set(families):
        here = families == family
        if devices[here].max() >= _SPAN * devices[here].min():
            chosen |= here & (devices == devices[here].max())
    if not chosen.any():
        raise InputError(f"{path}: no family spans {_SPAN} times in n_gpus; hold out shape or source instead")
    return chosen


def _summaries(known: MeasuredRuns, told: _Forecasts) -> list[FamilySummary]:
    families = np.array(known.families)
    return [
        _summary(family, known.take(families == family), told, families == family) for family in sorted(set(families))
    ]


def _together(known: MeasuredRuns, told: _Forecasts) -> FamilySummary | None:
    return _summary("all rows", known, told, np.ones(len(known), dtype=bool)) if len(known) else None


def _summary(family: str, own: MeasuredRuns, told: _Forecasts, chosen: npt.NDArray[np.bool_]) -> FamilySummary:
    seconds, plain = told.seconds[chosen], told.plain[chosen]
    inside = None
    if told.widths is not None:
        inside = float(np.mean(np.abs(np.log(seconds / own.seconds)) <= told.widths[chosen]))
    return FamilySummary(
        family=family,
        time=relative_errors(seconds, own.seconds),
        coverage=inside,
        constant_mfu=relative_errors(plain, own.seconds) if np.isfinite(plain).all() else None,
        memory=None if told.memory is None else _memory(own, told.memory[chosen]),
    )


def _memory(own: MeasuredRuns, bytes_: Array) -> RelativeErrors | None:
    seen = np.array([run.memory_bytes is not None for run in own.runs])
    if not seen.any():
        return None
    return relative_errors(bytes_[seen], np.array([run.memory_bytes for run in own.runs], dtype=np.float64)[seen])
