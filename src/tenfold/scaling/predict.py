"""A fitted scaling law: what it forecasts and how sure it is; the best split of a budget; `tenfold predict --table`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.core import InputError, count
from tenfold.scaling.backtest import (
    Candidate,
    CandidateScore,
    check_finite,
    check_identifiable,
    distance_from,
    excess_over_frontier,
    fit_candidates,
    obstacles,
    run_backtest,
)
from tenfold.scaling.committee import (
    CLOSE,
    LEVELS,
    MEASURED,
    STUDENT,
    Committee,
    IntervalCalibration,
    calibrate,
    form_committee,
)
from tenfold.scaling.laws import LAWS, SPLITLESS
from tenfold.scaling.outliers import OddRow, without_odd_rows
from tenfold.scaling.table import LN10, FloatArray, Points, RunTable, read_runs
from tenfold.scaling.terms import Law, as_new_tokens, levels, straight_line

REPLICATES = 300
BUDGET_SLACK = 0.05  # decades: runs come in whole steps, so a budget of a tenth is never met exactly
RATIO_SLACK = 1.5  # tokens per parameter this far outside the runs' range is worth a word
RATIO_GRID = 401
MEASURED_REACH = 2.0  # decades
DISCOUNT_DOUBT = 0.5  # share of what a published discount for repeated tokens takes off that is uncertain
MOST_DECADES = 10
RATIO_BEYOND = math.log(10.0)  # tokens per parameter are sought this far outside the runs' range, in ln
NAMED = 5  # rows that a note names, at most
TARGET_KEYS = ("N", "D", "C", "unique")
HOW = "write it as N=7e9,D=1.4e11 (and unique=... for repeated data), or C=1e22 for the best N and D of a budget"


@dataclass(frozen=True)
class Forecast:
    """Loss expected at N parameters and D tokens, and intervals: level to (low, high), in the table's unit."""

    parameters: float
    tokens: float
    compute: float
    unique: float
    loss: float
    intervals: dict[float, tuple[float, float]]
    decades_beyond: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ScalingLaw:
    """The laws chosen for a table of runs, with the calibration of their intervals."""

    runs: RunTable
    ranking: tuple[CandidateScore, ...]
    committee: Committee
    calibration: IntervalCalibration
    skipped: dict[str, str]
    odd: tuple[OddRow, ...] = ()

    def log_loss(self, points: Points) -> FloatArray:
        """Expected ln L at each point, shape (m,)."""
        return self.committee.log_loss(points)

    def half_widths(self, points: Points, level: float) -> FloatArray:
        """Half the interval's width in ln L at `level`, one of LEVELS, shape (m,)."""
        width = self.calibration.multipliers[level] * self.calibration.scale(self.committee, self.runs, points)
        if not points.repeats or self.runs.points.repeats:
            return width
        new = Points(points.n, points.d, points.c, points.d)
        doubt = DISCOUNT_DOUBT * (self.log_loss(points) - self.log_loss(new))
        return np.minimum(np.hypot(width, doubt), self.calibration.widest(self.runs, points, level))

    def points(self, parameters: float, tokens: float, unique: float | None = None) -> Points:
        """A target as the table would count it: C = k·ND with the table's own k (6 unless its C says otherwise)."""
        return Points.of(parameters, tokens, self.runs.flops_factor * parameters * tokens, unique)

    def forecast(self, points: Points) -> list[Forecast]:
        """Loss with intervals at each point."""
        expected = self.log_loss(points)
        widths = {level: self.half_widths(points, level) for level in LEVELS}
        beyond = distance_from(self.runs, points.c)
        return [
            Forecast(
                parameters=math.exp(points.n[i]),
                tokens=math.exp(points.d[i]),
                compute=math.exp(points.c[i]),
                unique=math.exp(points.u[i]),
                loss=math.exp(expected[i]),
                intervals={level: _around(expected[i], width[i]) for level, width in widths.items()},
                decades_beyond=float(beyond[i]),
                notes=self._notes(points.take(np.array([i])), float(beyond[i])),
            )
            for i in range(len(points))
        ]

    def _notes(self, point: Points, beyond: float) -> tuple[str, ...]:
        """What the interval cannot know."""
        notes = [str(row) for row in self.odd] + _copied(self.runs.copies)
        notes += [note for note in (self._ratio_note(point), self._repeat_note(point)) if note]
        if beyond > MEASURED_REACH + BUDGET_SLACK:
            notes.append(
                f"{beyond:.1f} decades beyond the largest run: intervals were measured up to {MEASURED_REACH:g}"
            )
        if self.half_widths(point, 0.8)[0] >= self.calibration.widest(self.runs, point, 0.8)[0] * (1 - 1e-9):
            notes.append("the runs hardly determine this forecast: its interval is cut at the widest of any use")
        if not self.calibration.origins:
            notes.append(
                "too few runs to backtest: the interval rests on what other tables' errors were, not on this one's"
            )
        return tuple(notes)

    def _ratio_note(self, point: Points) -> str | None:
        """Tokens per parameter unlike the runs', where the runs do not go on that way themselves."""
        ratio, seen = float((point.d - point.n)[0]), self.runs.points.d - self.runs.points.n
        slack = math.log(RATIO_SLACK)
        if sees_split(self):
            known = seen.min() - slack <= ratio <= seen.max() + slack
        else:
            known = abs(ratio - _recipe(self, float(point.c[0]))) <= slack
        if known:
            return None
        told = f"{math.exp(ratio):.3g} tokens per parameter: the runs have {math.exp(seen.min()):.3g} to "
        fixed = [name for name, values in (("N", self.runs.points.n), ("D", self.runs.points.d)) if levels(values) == 1]
        return f"{told}{math.exp(seen.max()):.3g}" + "".join(
            f"; all have one {name}, its effect is not seen" for name in fixed
        )

    def _repeat_note(self, point: Points) -> str | None:
        """Data seen more often than any run saw it."""
        times, most = float((point.d - point.u)[0]), float((self.runs.points.d - self.runs.points.u).max())
        if times <= max(most, 0.0) + math.log(RATIO_SLACK) or not point.repeats:
            return None
        if self.runs.points.repeats:
            return f"{math.exp(times):.3g} epochs: the runs have {math.exp(most):.3g} at most"
        worth = math.exp(float(as_new_tokens(point).d[0]))
        return (
            f"{math.exp(times):.3g} epochs, and no run repeats data: counted as {worth:.3g} new tokens, "
            "as arXiv 2305.16264 found for another model"
        )


def _copied(lines: Sequence[int]) -> list[str]:
    """A note on rows that stand in the table twice."""
    named = ", ".join(map(str, lines[:NAMED])) + (f" and {len(lines) - NAMED} more" if len(lines) > NAMED else "")
    return [f"row{'s' * (len(lines) > 1)} {named} repeat another word for word: counted once"] if lines else []


def _around(expected: float, width: float) -> tuple[float, float]:
    return math.exp(expected - width), math.exp(expected + width)


def fit_scaling_law(
    runs: RunTable, *, seed: int = 0, replicates: int = REPLICATES, laws: Sequence[Law] = LAWS
) -> ScalingLaw:
    """Backtest every candidate, keep those that forecast best, calibrate their intervals.

    The same runs (in any order) and seed give the same bits. Raises InputError where no law can be identified.
    """
    check_finite(runs)
    runs, odd = without_odd_rows(runs)
    check_identifiable(runs)
    backtest = run_backtest(runs, laws)
    fits = fit_candidates(runs, laws)
    ranking = backtest.ranking(fits)
    committee = form_committee(runs, ranking, fits, replicates, seed)
    calibration = calibrate(runs, committee, backtest, seed, MEASURED if laws is LAWS else STUDENT)
    return ScalingLaw(runs, tuple(ranking), committee, calibration, obstacles(runs, laws), odd)


def compute_optimal(law: ScalingLaw, compute: float) -> Points:
    """N and D (no token seen twice) with the lowest expected loss for `compute` FLOP.

    Sought over D/N within ten times the runs' range. Where the runs vary along one recipe only, no law sees N apart
    from D, and the answer is the runs' own recipe, continued.
    """
    product = math.log(compute / law.runs.flops_factor)
    seeing = sees_split(law)
    if not seeing:
        ratio = _recipe(law, math.log(compute))
        return _split(law, product, np.array([ratio]))
    seen = law.runs.points.d - law.runs.points.n
    grid = np.linspace(seen.min() - RATIO_BEYOND, seen.max() + RATIO_BEYOND, RATIO_GRID)
    points = _split(law, product, grid)
    losses = np.median([candidate.law.log_loss(found, points)[0] for candidate, found in seeing], axis=0)
    return _split(law, product, np.array([_lowest(grid, losses)]))


def sees_split(law: ScalingLaw) -> list[tuple[Candidate, FloatArray]]:
    """The members that tell N from D."""
    return [one for one in law.committee.members if all(one[0].law is not blind for blind in SPLITLESS)]


def _split(law: ScalingLaw, product: float, ratio: FloatArray) -> Points:
    """Points with ln ND = product and ln D/N = ratio."""
    n, d = np.exp((product - ratio) / 2), np.exp((product + ratio) / 2)
    return Points.of(n, d, law.runs.flops_factor * n * d)


def _lowest(grid: FloatArray, losses: FloatArray) -> float:
    """Find where the loss is lowest, between grid points by a parabola."""
    best = int(np.argmin(losses))
    if best in (0, len(grid) - 1):
        return float(grid[best])
    left, middle, right = losses[best - 1 : best + 2]
    shift = (left - right) / (2 * (left - 2 * middle + right)) if left + right > 2 * middle else 0.0
    return float(grid[best] + shift * (grid[1] - grid[0]))


def _recipe(law: ScalingLaw, log_compute: float) -> float:
    """ln D/N at this ln C along the straight line through the runs on the frontier."""
    runs = law.runs.take(excess_over_frontier(law.runs) <= 1e-9)
    ratio = runs.points.d - runs.points.n
    if len(runs) < 2:
        return float(np.median(ratio))
    intercept, slope = straight_line(runs.points.c, ratio)
    return intercept + slope * log_compute


def predict_table(table: Path, targets: Sequence[str], seed: int) -> dict[str, Any]:
    """Fit and forecast; without a target, ten times the largest compute in the table at its best N and D."""
    asked = [_parse_target(text) for text in targets]
    runs = read_runs(table)
    for text, values in zip(targets, asked, strict=True):
        _check_reach(text, values, runs)
    law = fit_scaling_law(runs, seed=seed)
    largest = math.exp(float(law.runs.points.c.max()))
    forecasts = [_forecast_target(law, values) for values in asked or [{"C": 10 * largest}]]
    return {"table": str(table), "runs": len(law.runs), "law": describe_law(law), "targets": forecasts}


def _parse_target(text: str) -> dict[str, float]:
    """`N=7e9,D=1.4e11` as numbers. Raises InputError that names what is wrong."""
    values: dict[str, float] = {}
    for part in text.split(","):
        key, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or key not in TARGET_KEYS or key in values:
            raise InputError(f"--target '{text}': {HOW}")
        values[key] = _positive(text, key, number)
    if set(values) not in ({"C"}, {"N", "D"}, {"N", "D", "unique"}):
        raise InputError(f"--target '{text}': {HOW}")
    if values.get("unique", 0.0) > values.get("D", math.inf):
        raise InputError(f"--target '{text}': unique must not exceed D")
    return values


def _check_reach(text: str, values: dict[str, float], runs: RunTable) -> None:
    """Refuse a target so far from the runs that no number for it means anything."""
    product = math.log(values["N"]) + math.log(values["D"]) if "N" in values else math.log(values["C"])
    asked = product + (math.log(runs.flops_factor) if "N" in values else 0.0)
    c = runs.points.c
    away = max(asked - float(c.max()), float(c.min()) - asked) / LN10
    if away > MOST_DECADES:
        raise InputError(
            f"--target '{text}': {away:.0f} decades of compute from the nearest run; "
            f"{MOST_DECADES} at most. Count N, D and C in the table's units"
        )


def _positive(text: str, key: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--target '{text}': {key} = '{number}': must be a finite number above 0")
    return value


def _forecast_target(law: ScalingLaw, values: dict[str, float]) -> dict[str, Any]:
    """The target's forecast, the best split of its compute, and what ten times more compute or data buys."""
    budget = values.get("C")
    point = (
        law.points(values["N"], values["D"], values.get("unique")) if budget is None else compute_optimal(law, budget)
    )
    [target] = law.forecast(point)
    return {"target": _show(target), **what_more_buys(law, target)}


def what_more_buys(law: ScalingLaw, target: Forecast) -> dict[str, Any]:
    """The best split of the target's compute, and ten times more compute or data, as JSON values."""
    more_data = law.points(target.parameters, 10 * target.tokens, 10 * target.unique)
    return {
        "compute_optimal": _best(law, target.compute),
        "ten_times_compute": _best(law, 10 * target.compute),
        "ten_times_data": _show(*law.forecast(more_data)),
    }


def _best(law: ScalingLaw, compute: float) -> dict[str, Any]:
    return _show(*law.forecast(compute_optimal(law, compute)))


def _show(forecast: Forecast) -> dict[str, Any]:
    """A forecast as JSON values; levels become text ("0.8")."""
    return {
        "N": forecast.parameters,
        "D": forecast.tokens,
        "C": forecast.compute,
        "unique": forecast.unique,
        "loss": forecast.loss,
        "intervals": {str(level): list(edges) for level, edges in forecast.intervals.items()},
        "decades_beyond": forecast.decades_beyond,
        "notes": list(forecast.notes),
    }


def describe_law(law: ScalingLaw) -> dict[str, Any]:
    """Which form was chosen and why, as JSON values. Errors are shares of the loss."""
    best = law.committee.members[0]
    by_form: dict[str, float] = {}
    for score in law.ranking:
        by_form.setdefault(score.candidate.law.name, score.error)
    calibration = law.calibration
    return {
        "form": best[0].law.name,
        "formula": best[0].law.formula,
        "fitted_on": best[0].view.describe(),
        "coefficients": dict(zip(best[0].law.parameters, best[1][0].tolist(), strict=True)),
        "members": [candidate.describe() for candidate, _ in law.committee.members],
        "backtest_error": by_form,
        "not_identified": law.skipped,
        "left_out": [str(row) for row in law.odd],
        "origins": calibration.origins,
        "noise": calibration.noise,
        "seed_noise": calibration.seed_noise,
        "drift_per_decade": calibration.drift,
        "multipliers": {str(level): value for level, value in calibration.multipliers.items()},
    }


def prediction_lines(result: dict[str, Any]) -> list[str]:
    """Lines for people from the result of `predict_table`."""
    lines = [f"{result['table']}: {result['runs']} runs", *_law_lines(result["law"])]
    for forecast in result["targets"]:
        lines += ["", *_target_lines(forecast)]
    return lines


def _law_lines(law: dict[str, Any]) -> list[str]:
    errors = ", ".join(f"{name} {error:.2%}" for name, error in law["backtest_error"].items())
    tested = f"backtests from {law['origins']} origins and usual errors" if law["origins"] else "its usual error"
    lines = [
        f"law: {law['form']}, {law['formula']}, on {law['fitted_on']}",
        f"why: lowest error expected on larger runs, by {tested}: {errors}",
        f"forecast: median of {count(len(law['members']), 'candidate')} (form and view) expected to err at most "
        f"{CLOSE:g}x that",
    ]
    lines += [f"not used: {name} ({reason})" for name, reason in law["not_identified"].items()]
    return lines


def _target_lines(forecast: dict[str, Any]) -> list[str]:
    target, best = forecast["target"], forecast["compute_optimal"]
    lines = [
        f"target N={target['N']:.4g} D={target['D']:.4g} C={target['C']:.4g}: loss {target['loss']:.4f}",
        *(f"  {float(level):.0%}: {low:.4f} – {high:.4f}" for level, (low, high) in target["intervals"].items()),
        f"  best split of this compute: N={best['N']:.4g} D={best['D']:.4g}, loss {_with_interval(best)}",
        f"  10x the compute: loss {_with_interval(forecast['ten_times_compute'])}",
        f"  10x the data: loss {_with_interval(forecast['ten_times_data'])}",
    ]
    more = [note for note in forecast["ten_times_data"]["notes"] if note not in target["notes"]]
    return (
        lines + [f"  note: {note}" for note in target["notes"]] + [f"  note on 10x the data: {note}" for note in more]
    )


def _with_interval(forecast: dict[str, Any]) -> str:
    low, high = forecast["intervals"]["0.8"]
    return f"{forecast['loss']:.4f} (80%: {low:.4f} – {high:.4f})"
