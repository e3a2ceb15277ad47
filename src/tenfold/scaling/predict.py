"""`tenfold predict --table`: fit a law to a table of runs and forecast targets."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenfold.core.errors import InputError
from tenfold.scaling.law import Forecast, ScalingLaw, fit_scaling_law
from tenfold.scaling.optimum import compute_optimal
from tenfold.scaling.table import read_runs

TARGET_KEYS = ("N", "D", "C", "unique")
HOW = "write it as N=7e9,D=1.4e11 (and unique=... for repeated data), or C=1e22 for the best N and D of a budget"


def predict_table(table: Path, targets: Sequence[str], seed: int) -> dict[str, Any]:
    """Fit and forecast; without a target, ten times the largest compute in the table at its best N and D."""
    asked = [_parse_target(text) for text in targets]
    law = fit_scaling_law(read_runs(table), seed=seed)
    largest = math.exp(float(law.runs.points.c.max()))
    forecasts = [_forecast(law, values) for values in asked or [{"C": 10 * largest}]]
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


def _positive(text: str, key: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--target '{text}': {key} = '{number}': must be a finite number above 0")
    return value


def _forecast(law: ScalingLaw, values: dict[str, float]) -> dict[str, Any]:
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
        "origins": calibration.origins,
        "noise": calibration.noise,
        "seed_noise": calibration.seed_noise,
        "drift_per_decade": calibration.drift,
        "multipliers": {str(level): value for level, value in calibration.multipliers.items()},
    }


def prediction_lines(result: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = [f"{result['table']}: {result['runs']} runs", *_law_lines(result["law"])]
    for forecast in result["targets"]:
        lines += ["", *_target_lines(forecast)]
    return lines


def _law_lines(law: dict[str, Any]) -> list[str]:
    errors = ", ".join(f"{name} {error:.2%}" for name, error in law["backtest_error"].items())
    why = f"it forecasts the table's own larger runs best, from {law['origins']} origins: {errors}"
    lines = [
        f"law: {law['form']}, {law['formula']}, on {law['fitted_on']}",
        f"why: {why if errors else 'too few runs to backtest; this is the simplest form'}",
    ]
    lines.append(f"forecast: median of {len(law['members'])} forms and views that backtest within 1.5x of the best")
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
    return lines + [f"  note: {note}" for note in target["notes"]]


def _with_interval(forecast: dict[str, Any]) -> str:
    low, high = forecast["intervals"]["0.8"]
    return f"{forecast['loss']:.4f} (80%: {low:.4f} – {high:.4f})"
