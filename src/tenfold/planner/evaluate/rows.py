"""`tenfold plan --evaluate rows.csv`: a planner against measured runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tenfold.errors import InputError
from tenfold.planner.calibration import Calibrated, shipped
from tenfold.planner.calibration.fit import fit
from tenfold.planner.calibration.held_out import Told, covered, held_out
from tenfold.planner.calibration.measured import Measured, measured
from tenfold.planner.calibration.memory import memory_held_out
from tenfold.planner.calibration.stored import width_group
from tenfold.planner.cost.memory import memory_bytes
from tenfold.planner.cost.numbers import Array
from tenfold.planner.evaluate.answer import Answer, answer
from tenfold.planner.evaluate.baseline import constant_mfu_seconds
from tenfold.planner.evaluate.summary import Errors, FamilySummary, errors, table
from tenfold.planner.rows import Run, Skipped, layout_of, read_runs, shape_of

HeldOut = Literal["shape", "source", "scale"]
HELD_OUT: tuple[HeldOut, ...] = ("shape", "source", "scale")
SPAN = 4  # a family whose largest runs are to be told from its smaller ones has at least this range of sizes


@dataclass(frozen=True)
class Evaluation:
    """Every row's forecast, the rows that cannot be modelled, and a summary by family."""

    answers: list[Answer]
    skipped: list[Skipped]
    families: list[FamilySummary]
    held_out: HeldOut | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "held_out": self.held_out,
            "rows": [each.to_dict() for each in self.answers],
            "skipped": [vars(each) for each in self.skipped],
            "families": [each.to_dict() for each in self.families],
        }

    def lines(self) -> list[str]:
        """For people."""
        how = {
            None: "with the calibration that comes with tenfold (which has seen the published rows)",
            "shape": "each model shape forecast by a calibration that has not seen it",
            "source": "each source forecast by a calibration that has not seen it",
            "scale": "each family's largest runs forecast by a calibration that has not seen them",
        }[self.held_out]
        lines = [f"{len(self.answers)} rows, {how}"]
        lines += table(self.families) if self.families else ["no row has a measured step time"]
        if self.skipped:
            lines.append(
                f"{len(self.skipped)} rows left out: row {self.skipped[0].name}: {self.skipped[0].reason}; ..."
            )
        return lines


def evaluate_rows(path: Path, out: HeldOut | None = None, told: Told = lambda done, of: None) -> Evaluation:
    """Forecast the rows of a CSV file. With `out`, constants are fitted to the file's own other rows.

    Raises InputError when a row is not what it must be, or when nothing is left to fit.
    """
    runs, skipped = read_runs(path)
    if not runs:
        raise InputError(f"{path}: no row that can be modelled ({_why(skipped)})")
    calibrated = shipped()
    known = measured(runs)
    if out is None:
        answers = answer(runs, calibrated)
        return Evaluation(answers, skipped, _summaries(known, _of_measured(answers), calibrated, None), None)
    chosen = _chosen(known, out, path)
    seconds = _forecast_unseen(known, chosen, out, told)
    kept = known.take(chosen)
    families = _summaries(kept, seconds, calibrated, out)
    return Evaluation(answer(kept.runs, calibrated, seconds), skipped, families, out)


def key_of(run: Run, out: HeldOut | None) -> str:
    """What runs are held out together by."""
    return run.source if out == "source" else run.shape_key


def _why(skipped: Sequence[Skipped]) -> str:
    return f"row {skipped[0].name}: {skipped[0].reason}" if skipped else "the table is empty"


def _of_measured(answers: Sequence[Answer]) -> Array:
    return np.array([each.step_seconds for each in answers if each.measured_seconds is not None])


def _chosen(known: Measured, out: HeldOut, path: Path) -> npt.NDArray[np.bool_]:
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
        if devices[here].max() >= SPAN * devices[here].min():
            chosen |= here & (devices == devices[here].max())
    if not chosen.any():
        raise InputError(f"{path}: no family spans {SPAN} times in n_gpus; hold out shape or source instead")
    return chosen


def _forecast_unseen(known: Measured, chosen: npt.NDArray[np.bool_], out: HeldOut, told: Told) -> Array:
    """Of the chosen runs, by calibrations that have not seen them."""
    if out != "scale":
        return held_out(known, lambda run: key_of(run, out), told)
    rest, these = known.take(~chosen), known.take(chosen)
    return these.model(fit(rest.model, rest.seconds, rest.levels, rest.weights).constants(these.levels))


def _summaries(known: Measured, seconds: Array, calibrated: Calibrated, out: HeldOut | None) -> list[FamilySummary]:
    if not len(known):
        return []
    keys = [key_of(run, out) for run in known.runs]
    plain = constant_mfu_seconds(known, keys if out in ("shape", "source") else [run.name for run in known.runs])
    groups = [width_group(run.framework, run.experts > 0) for run in known.runs]
    if out in ("shape", "source"):
        inside = covered(seconds, known.seconds, groups, keys)
    else:
        widths = [calibrated.half_width(r.framework, r.devices, experts=r.experts > 0) for r in known.runs]
        inside = (np.abs(np.log(seconds / known.seconds)) <= np.array(widths)).astype(np.float64)
    families = np.array(known.families)
    return [
        FamilySummary(
            family=family,
            time=errors(seconds[families == family], known.seconds[families == family]),
            coverage=float(inside[families == family].mean()),
            constant_mfu=_plain_errors(plain[families == family], known.seconds[families == family]),
            memory=_memory(
                [run for run, own in zip(known.runs, families == family, strict=True) if own], calibrated, out
            ),
        )
        for family in sorted(set(known.families))
    ]


def _plain_errors(forecast: Array, seen: Array) -> Errors | None:
    return errors(forecast, seen) if np.isfinite(forecast).all() else None


def _memory(runs: Sequence[Run], calibrated: Calibrated, out: HeldOut | None) -> Errors | None:
    """Errors of the peak memory, with shapes held out too if step times were."""
    seen = [run for run in runs if run.memory_bytes is not None]
    if not seen:
        return None
    if out == "shape" and len({run.shape_key for run in seen}) > 1:
        forecast = memory_held_out(seen, lambda run: run.shape_key)
    else:
        forecast = np.asarray(memory_bytes(shape_of(seen), layout_of(seen), calibrated.memory).total)
    return errors(forecast, np.array([run.memory_bytes for run in seen], dtype=np.float64))
