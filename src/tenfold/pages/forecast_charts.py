"""Charts of the forecast, from what report.json holds. A chart without data is left out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tenfold.pages.scaling_charts import (
    Profile,
    Residual,
    Ribbon,
    Rung,
    Target,
    curve_chart,
    isoflop_chart,
    ladder_chart,
    residual_chart,
    ribbon_of,
)
from tenfold.scaling.band import CurveForecast

Record = Mapping[str, Any]
EMPTY = Ribbon([], [], [])


def ladder_picture(ladder: Record, forecast: Record | None, loss: Record | None) -> Markup | None:
    """Runs of the ladder with the fitted law; with a forecast also `loss`, its quantity, at the target."""
    rungs = [Rung(p["C"], p["loss"], p["name"]) for p in ladder["points"] if is_number(p["loss"])]
    if not rungs:
        return None
    if forecast is None or loss is None:
        return ladder_chart(rungs, EMPTY, None)
    ribbon = forecast["ribbon"]
    intervals = [(float(level), low, high) for level, (low, high) in loss["intervals"].items()]
    target = Target(forecast["target"]["C"], loss["median"], intervals, loss["outcome"])
    return ladder_chart(rungs, Ribbon(ribbon["xs"], ribbon["values"], ribbon["bands"]), target)


def curve_picture(forecast: Record) -> Markup | None:
    """Training loss over training tokens in its band."""
    if forecast["curve"] is None:
        return None
    per_step = forecast["target"]["D"] / forecast["target"]["steps"]
    live = [(step * per_step, loss) for step, loss in forecast["live"] if is_number(loss)]
    return curve_chart(ribbon_of(CurveForecast.from_record(forecast["curve"]), per_step), live)


def residual_picture(residuals: Sequence[Record]) -> Markup | None:
    """How far each run of the ladder lies from the law."""
    drawn = [Residual(r["x"], r["relative"], r["group"]) for r in residuals if is_number(r["relative"])]
    return residual_chart(drawn) if drawn else None


def isoflop_picture(profiles: Sequence[Record]) -> Markup | None:
    """Loss over size for each budget."""
    drawn = [_profile(record) for record in profiles]
    return isoflop_chart(drawn) if any(profile.points for profile in drawn) else None


def _profile(record: Record) -> Profile:
    points = [(size, loss) for size, loss in record["points"] if is_number(loss)]
    minimum = record["minimum"]
    return Profile(record["budget"], points, [(x, y) for x, y in record["fitted"]], minimum and tuple(minimum))


def is_number(value: float | None) -> bool:
    """Whether there is a finite value: a run that diverged has none."""
    return value is not None and math.isfinite(value)
