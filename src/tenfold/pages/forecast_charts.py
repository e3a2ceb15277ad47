"""Charts of the forecast: ladder and law, live curve in its band, residuals, loss over size at equal compute.

A `..._picture` draws what report.json holds, and is None where there is nothing to draw; a `..._chart` draws values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from markupsafe import Markup

from tenfold.core import scientific, short
from tenfold.pages.charts import (
    LEFT,
    NOTHING,
    RIGHT,
    WIDTH,
    Axis,
    Chart,
    Paint,
    axis_over,
    plot,
    thin,
    y_range,
)
from tenfold.pages.style import BLUE, GREEN, ORANGE, SOFT, ramp

T = TypeVar("T")
Record = Mapping[str, Any]
OPACITIES = (0.14, 0.17, 0.22)  # widest band first; they lie on one another
MOST_GROUPS = 6  # named in a legend; of more the first and the last
NAMES = 44  # room for the names of budgets on the right


@dataclass(frozen=True)
class Ribbon:
    """A forecast over x: its values and, for each level, the lows and highs. All sequences are of one length."""

    xs: Sequence[float]
    values: Sequence[float]
    bands: Sequence[tuple[float, Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class LadderRun:
    """One run of the ladder."""

    x: float
    loss: float
    name: str = ""


@dataclass(frozen=True)
class TargetLoss:
    """What was forecast at x, with (level, low, high) intervals, and what was measured once it is."""

    x: float
    forecast: float
    intervals: Sequence[tuple[float, float, float]]
    actual: float | None = None


@dataclass(frozen=True)
class Residual:
    """How far a run lies from the fit: (measured − fitted) / fitted."""

    x: float
    relative: float
    group: str
    held_out: bool = False


@dataclass(frozen=True)
class IsoflopProfile:
    """Runs of one compute budget: (parameters, loss) measured, the fitted curve through them, and its minimum."""

    budget: float
    points: Sequence[tuple[float, float]]
    fitted: Sequence[tuple[float, float]] = ()
    minimum: tuple[float, float] | None = None


# From report.json


def ladder_picture(ladder: Record, forecast: Record | None, loss: Record | None) -> Markup | None:
    """Runs of the ladder with the fitted law; with a forecast also `loss`, its quantity, at the target."""
    runs = [LadderRun(p["C"], p["loss"], p["name"]) for p in ladder["points"] if _is_finite(p["loss"])]
    if not runs:
        return None
    if forecast is None or loss is None:
        return ladder_chart(runs, Ribbon([], [], []), None)
    intervals = [(float(level), low, high) for level, (low, high) in loss["intervals"].items()]
    target = TargetLoss(forecast["target"]["C"], loss["median"], intervals, loss["outcome"])
    ribbon = forecast["ribbon"] or {"xs": [], "values": [], "bands": []}
    return ladder_chart(runs, Ribbon(ribbon["xs"], ribbon["values"], ribbon["bands"]), target)


def curve_picture(forecast: Record) -> Markup | None:
    """Training loss over training tokens in its band."""
    curve = forecast["curve"]
    if curve is None:
        return None
    per_step = forecast["target"]["D"] / forecast["target"]["steps"]
    live = [(step * per_step, loss) for step, loss in forecast["live"] if _is_finite(loss)]
    bands = [(band["level"], band["low"], band["high"]) for band in curve["bands"]]
    return curve_chart(Ribbon([step * per_step for step in curve["steps"]], curve["losses"], bands), live)


def residual_picture(residuals: Sequence[Record]) -> Markup | None:
    """How far each run of the ladder lies from the law."""
    drawn = [Residual(r["x"], r["relative"], r["group"]) for r in residuals if _is_finite(r["relative"])]
    return residual_chart(drawn) if drawn else None


def isoflop_picture(profiles: Sequence[Record]) -> Markup | None:
    """Loss over size for each budget."""
    drawn = [_profile(record) for record in profiles]
    return isoflop_chart(drawn) if any(profile.points for profile in drawn) else None


def _profile(record: Record) -> IsoflopProfile:
    points = [(size, loss) for size, loss in record["points"] if _is_finite(loss)]
    minimum = record["minimum"]
    return IsoflopProfile(record["budget"], points, [(x, y) for x, y in record["fitted"]], minimum and tuple(minimum))


def _is_finite(value: float | None) -> bool:
    """Whether there is a finite value: a run that diverged has none."""
    return value is not None and math.isfinite(value)


# Ladder and law


def ladder_chart(
    runs: Sequence[LadderRun],
    fit: Ribbon,
    target: TargetLoss | None,
    x_label: str = "training FLOPs",
    y_label: str = "loss, nats per token",
) -> Markup:
    """Runs, the fitted law with its bands, and the target's forecast beside what it became; both axes logarithmic.

    Without a target the runs and the law alone.
    """
    if not runs:
        return NOTHING
    xs, ys = _extent(runs, fit, target)
    chart = _log_plot(axis_over(xs, LEFT, WIDTH - RIGHT, log=True), ys, _ladder_entries(target))
    _draw_ribbon(chart, fit)
    for run in runs:
        chart.dot(run.x, run.loss, BLUE, radius=4, title=_title(run.name, run.loss))
    if target is not None:
        _draw_target(chart, target)
    return chart.render(x_label, y_label)


def _extent(runs: Sequence[LadderRun], fit: Ribbon, target: TargetLoss | None) -> tuple[list[float], list[float]]:
    """All x and all y that the ladder's chart must hold; a ribbon cut off by the frame would bend along it."""
    xs, ys = [run.x for run in runs] + list(fit.xs), [run.loss for run in runs] + list(fit.values)
    ys += [edge for _, lows, highs in fit.bands for edge in (*lows, *highs)]
    if target is not None:
        xs.append(target.x)
        ys += [target.forecast, *(edge for _, low, high in target.intervals for edge in (low, high))]
        ys += [] if target.actual is None else [target.actual]
    return xs, ys


def _ladder_entries(target: TargetLoss | None) -> dict[str, Paint]:
    entries = {"runs": Paint(BLUE)}
    if target is not None:
        entries[f"forecast {target.forecast:.4g}"] = Paint(ORANGE)
        if target.actual is not None:
            entries[f"measured {target.actual:.4g}"] = Paint(GREEN)
    return entries


def _draw_target(chart: Chart, target: TargetLoss) -> None:
    for width, (_, low, high) in zip((2.0, 4.5, 8.0), _widest_first(target.intervals), strict=False):
        chart.upright(target.x, low, high, ORANGE, width)
    chart.dot(target.x, target.forecast, ORANGE, radius=7, hollow=True, title=_title("forecast", target.forecast))
    if target.actual is not None:
        chart.dot(target.x, target.actual, GREEN, radius=4, title=_title("measured", target.actual))


# Curve


def curve_chart(
    forecast: Ribbon, live: Sequence[tuple[float, float]], x_label: str = "training tokens", y_label: str = "loss"
) -> Markup:
    """The live curve in its band; the forecast dashed."""
    if not forecast.xs:
        return NOTHING
    finite = thin([(x, y) for x, y in live if math.isfinite(y)])
    low, high = y_range([list(zip(forecast.xs, forecast.values, strict=True)), finite], from_zero=False)
    shown = [(x, y) for x, y in finite if y <= high]
    forecast = _from_below(forecast, high)
    last = [edge for _, lows, highs in forecast.bands for edge in (lows[-1], highs[-1])]
    air = 0.03 * (high - low)
    levels = "/".join(f"{level:.0%}"[:-1] for level, _, _ in reversed(_widest_first(forecast.bands)))
    entries = {f"forecast with {levels}% bands": Paint(BLUE)}
    if shown:
        entries[f"live {shown[-1][1]:.4g}"] = Paint(ORANGE)
    x = Axis(0.0, forecast.xs[-1], LEFT, WIDTH - RIGHT)
    chart = plot(x, min([low, *(edge - air for edge in last)]), high, entries)
    _draw_ribbon(chart, forecast)
    chart.line(shown, ORANGE, width=2)
    if shown:
        chart.dot(*shown[-1], ORANGE, radius=4.5, title=_title("now", shown[-1][1]))
    return chart.render(x_label, y_label)


def _from_below(ribbon: Ribbon, high: float) -> Ribbon:
    """From where its values fit below `high`: the start of a run would flatten the rest."""
    first = next((number for number, value in enumerate(ribbon.values) if value <= high), 0)
    bands = [(level, lows[first:], highs[first:]) for level, lows, highs in ribbon.bands]
    return Ribbon(ribbon.xs[first:], ribbon.values[first:], bands)


# Residuals


def residual_chart(residuals: Sequence[Residual], x_label: str = "training FLOPs") -> Markup:
    """Relative residuals over x (logarithmic), coloured by group; what the fit did not see is hollow."""
    if not residuals:
        return NOTHING
    reach = 110 * (max(abs(r.relative) for r in residuals) or 0.01)
    groups = list(dict.fromkeys(r.group for r in residuals))
    colours = {group: ramp(number, len(groups)) for number, group in enumerate(groups)}
    x = axis_over([r.x for r in residuals], LEFT, WIDTH - RIGHT, log=True)
    chart = plot(x, -reach, reach, _residual_entries(residuals, colours))
    chart.line([(chart.x.low, 0), (chart.x.high, 0)], SOFT, width=1.2)
    for r in residuals:
        chart.line([(r.x, 0), (r.x, 100 * r.relative)], colours[r.group], width=1)
        title = f"{r.group}: {100 * r.relative:+.2f}%"
        chart.dot(r.x, 100 * r.relative, colours[r.group], radius=4, title=title, hollow=r.held_out)
    return chart.render(x_label, "measured against fit, %")


def _residual_entries(residuals: Sequence[Residual], colours: Mapping[str, str]) -> dict[str, Paint]:
    entries = {group: Paint(colour) for group, colour in colours.items()}
    if len(entries) > MOST_GROUPS:
        names = list(entries)
        entries = {name: entries[name] for name in (names[0], names[-1])}
    return entries | ({"hollow: held out": Paint(SOFT)} if any(r.held_out for r in residuals) else {})


# Loss over size


def isoflop_chart(
    profiles: Sequence[IsoflopProfile], x_label: str = "parameters", y_label: str = "loss, nats per token"
) -> Markup:
    """Loss over size at equal compute, one colour per budget, minima ringed and joined."""
    drawn = [profile for profile in sorted(profiles, key=lambda p: p.budget) if profile.points]
    if not drawn:
        return NOTHING
    points = [point for profile in drawn for point in profile.points]
    x = axis_over([x for x, _ in points], LEFT, WIDTH - RIGHT - NAMES, log=True)
    chart = _log_plot(x, [y for _, y in points], {})
    chart.line([profile.minimum for profile in drawn if profile.minimum], SOFT, width=1.4, dash="2 4")
    for number, profile in enumerate(drawn):
        _draw_profile(chart, profile, ramp(number, len(drawn)))
    _name_profiles(chart, drawn)
    return chart.render(x_label, y_label)


def _draw_profile(chart: Chart, profile: IsoflopProfile, colour: str) -> None:
    chart.line(sorted(profile.fitted or profile.points), colour, width=1.6)
    for x, y in profile.points:
        chart.dot(x, y, colour, radius=3, title=_title(f"{short(x)} parameters", y))
    if profile.minimum:
        chart.dot(*profile.minimum, colour, radius=5.5, hollow=True, title=_title("minimum", profile.minimum[1]))


def _name_profiles(chart: Chart, profiles: Sequence[IsoflopProfile]) -> None:
    """The budget at each profile's right end, pushed apart where two would touch."""
    ends = [max(profile.fitted or profile.points) for profile in profiles]
    order = sorted(range(len(ends)), key=lambda number: -chart.y.place(ends[number][1]))
    floor = math.inf
    for number in order:
        x, y = ends[number]
        floor = max(min(chart.y.place(y) + 4, floor - 13), chart.y.end)
        colour = ramp(number, len(profiles))
        chart.write(chart.x.place(x) + 8, floor, scientific(profiles[number].budget), colour, bold=True)


# Shared


def _log_plot(x: Axis, ys: Sequence[float], entries: Mapping[str, Paint]) -> Chart:
    y = axis_over(ys, 0.0, 1.0, log=True)
    return plot(x, y.low, y.high, entries, log=True)


def _draw_ribbon(chart: Chart, ribbon: Ribbon) -> None:
    for opacity, (_, lows, highs) in zip(OPACITIES, _widest_first(ribbon.bands), strict=False):
        chart.band(ribbon.xs, lows, highs, Paint(BLUE, opacity))
    chart.line(list(zip(ribbon.xs, ribbon.values, strict=True)), BLUE, width=1.6, dash="5 4")


def _widest_first(bands: Sequence[tuple[float, T, T]]) -> list[tuple[float, T, T]]:
    return sorted(bands, key=lambda band: -band[0])


def _title(name: str, loss: float) -> str:
    return f"{name} · {loss:.4g}".removeprefix(" · ")
