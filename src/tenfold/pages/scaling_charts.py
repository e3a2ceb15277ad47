"""Pictures of forecasts: ladder and fit, live curve in its band, residuals, isoFLOP profiles, the stack of changes.

Pure functions from plain values to inline SVG.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from markupsafe import Markup

from tenfold.pages.charts import short_number, thin, y_range
from tenfold.pages.figures import multiple
from tenfold.pages.marks import (
    BOTTOM,
    INK,
    LEFT,
    LETTER,
    RIGHT,
    SOFT,
    TOP,
    WIDTH,
    Axis,
    Chart,
    Word,
    axis_over,
    power_label,
)
from tenfold.scaling.band import CurveForecast

T = TypeVar("T")

HEIGHT = 320
BLUE, ORANGE, GREEN, PURPLE, GOLD = (f"var(--c{number})" for number in range(5))
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GOLD)
OPACITIES = (0.14, 0.17, 0.22)  # widest band first; they lie on one another
STACK_TOP, PITCH, FIGURES = 14, 30, 140  # of the stack: first row, height of a row, room for its figures
FURTHEST, REACH = 1000.0, 3.0  # most that a bar shows; how far intervals may reach beyond the bars
NOTHING = Markup('<p class="none">nothing recorded</p>')


@dataclass(frozen=True)
class Ribbon:
    """A forecast over x: its values and, for each level, the lows and highs. All sequences are of one length."""

    xs: Sequence[float]
    values: Sequence[float]
    bands: Sequence[tuple[float, Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Rung:
    """One run of the ladder."""

    x: float
    loss: float
    name: str = ""


@dataclass(frozen=True)
class Target:
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
class Profile:
    """Runs of one compute budget: (parameters, loss) measured, the fitted curve through them, and its minimum."""

    budget: float
    points: Sequence[tuple[float, float]]
    fitted: Sequence[tuple[float, float]] = ()
    minimum: tuple[float, float] | None = None


@dataclass(frozen=True)
class Change:
    """One change's multiplier of effective compute, with its interval."""

    name: str
    multiplier: float
    low: float
    high: float
    verdict: Literal["adopt", "reject", "undecided", "total"] = "undecided"


def ribbon_of(forecast: CurveForecast, per_step: float = 1.0) -> Ribbon:
    """A curve forecast as a ribbon; `per_step` turns steps into what the x axis shows, such as tokens."""
    bands = [(band.level, band.low.tolist(), band.high.tolist()) for band in forecast.bands]
    return Ribbon([step * per_step for step in forecast.steps.tolist()], forecast.losses.tolist(), bands)


def ladder_chart(
    rungs: Sequence[Rung],
    fit: Ribbon,
    target: Target | None,
    x_label: str = "training FLOPs",
    y_label: str = "loss, nats per token",
) -> Markup:
    """Runs, the fitted law with its bands, and the target's forecast beside what it became; both axes logarithmic.

    Without a target the runs and the law alone.
    """
    if not rungs:
        return NOTHING
    xs, ys = _extent(rungs, fit, target)
    chart = _chart(axis_over(xs, LEFT, WIDTH - RIGHT, log=True), ys, log=True)
    _draw_ribbon(chart, fit, BLUE, dash="5 4")
    for rung in rungs:
        chart.dot(rung.x, rung.loss, BLUE, radius=4, title=_title(rung.name, rung.loss))
    entries = [("runs", BLUE)]
    if target is not None:
        _draw_target(chart, target)
        entries.append((f"forecast {target.forecast:.4g}", ORANGE))
        entries += [(f"measured {target.actual:.4g}", GREEN)] if target.actual is not None else []
    chart.legend(entries)
    return chart.render(x_label, y_label)


def _extent(rungs: Sequence[Rung], fit: Ribbon, target: Target | None) -> tuple[list[float], list[float]]:
    """All x and all y that the ladder's chart must hold; a ribbon cut off by the frame would bend along it."""
    xs, ys = [rung.x for rung in rungs] + list(fit.xs), [rung.loss for rung in rungs] + list(fit.values)
    ys += [edge for _, lows, highs in fit.bands for edge in (*lows, *highs)]
    if target is not None:
        xs.append(target.x)
        ys += [target.forecast, *(edge for _, low, high in target.intervals for edge in (low, high))]
        ys += [] if target.actual is None else [target.actual]
    return xs, ys


def _draw_target(chart: Chart, target: Target) -> None:
    for width, (_, low, high) in zip((2.0, 4.5, 8.0), _widest_first(target.intervals), strict=False):
        chart.upright(target.x, low, high, ORANGE, width)
    chart.dot(target.x, target.forecast, ORANGE, radius=7, hollow=True, title=_title("forecast", target.forecast))
    if target.actual is not None:
        chart.dot(target.x, target.actual, GREEN, radius=4, title=_title("measured", target.actual))


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
    y = Axis(min([low, *(edge - air for edge in last)]), high, HEIGHT - BOTTOM, TOP)
    x = Axis(0.0, forecast.xs[-1], LEFT, WIDTH - RIGHT)
    chart = Chart(x, y, HEIGHT)
    _draw_ribbon(chart, forecast, BLUE, dash="5 4")
    chart.line(shown, ORANGE, width=2)
    levels = "/".join(f"{level:.0%}"[:-1] for level, _, _ in reversed(_widest_first(forecast.bands)))
    entries = [(f"forecast with {levels}% bands", BLUE)]
    if shown:
        chart.dot(*shown[-1], ORANGE, radius=4.5, title=_title("now", shown[-1][1]))
        entries.append((f"live {shown[-1][1]:.4g}", ORANGE))
    chart.legend(entries)
    return chart.render(x_label, y_label)


def _from_below(ribbon: Ribbon, high: float) -> Ribbon:
    """From where its values fit below `high`: the start of a run would flatten the rest."""
    first = next((number for number, value in enumerate(ribbon.values) if value <= high), 0)
    bands = [(level, lows[first:], highs[first:]) for level, lows, highs in ribbon.bands]
    return Ribbon(ribbon.xs[first:], ribbon.values[first:], bands)


def residual_chart(residuals: Sequence[Residual], x_label: str = "training FLOPs") -> Markup:
    """Relative residuals over x (logarithmic), coloured by group; what the fit did not see is hollow."""
    if not residuals:
        return NOTHING
    xs, reach = [r.x for r in residuals], max(abs(r.relative) for r in residuals)
    y = Axis(-100 * (reach or 0.01) * 1.1, 100 * (reach or 0.01) * 1.1, HEIGHT - BOTTOM, TOP)
    chart = Chart(axis_over(xs, LEFT, WIDTH - RIGHT, log=True), y, HEIGHT)
    chart.line([(chart.x.low, 0), (chart.x.high, 0)], SOFT, width=1.2)
    groups = list(dict.fromkeys(r.group for r in residuals))
    colours = {group: _ramp(number, len(groups)) for number, group in enumerate(groups)}
    for r in residuals:
        chart.line([(r.x, 0), (r.x, 100 * r.relative)], colours[r.group], width=1)
        title = f"{r.group}: {100 * r.relative:+.2f}%"
        chart.dot(r.x, 100 * r.relative, colours[r.group], radius=4, title=title, hollow=r.held_out)
    entries = list(colours.items())
    shown = entries if len(entries) <= 6 else [entries[0], entries[-1]]
    chart.legend([*shown, *([("hollow: held out", SOFT)] if any(r.held_out for r in residuals) else [])])
    return chart.render(x_label, "measured against fit, %")


def isoflop_chart(
    profiles: Sequence[Profile], x_label: str = "parameters", y_label: str = "loss, nats per token"
) -> Markup:
    """Loss over size at equal compute, one colour per budget, minima ringed and joined."""
    drawn = [profile for profile in sorted(profiles, key=lambda p: p.budget) if profile.points]
    if not drawn:
        return NOTHING
    points = [point for profile in drawn for point in profile.points]
    chart = _chart(
        axis_over([x for x, _ in points], LEFT, WIDTH - RIGHT - 44, log=True), [y for _, y in points], log=True
    )
    minima = [profile.minimum for profile in drawn if profile.minimum]
    chart.line(minima, SOFT, width=1.4, dash="2 4")
    for number, profile in enumerate(drawn):
        _draw_profile(chart, profile, _ramp(number, len(drawn)))
    _label_profiles(chart, drawn)
    return chart.render(x_label, y_label)


def _draw_profile(chart: Chart, profile: Profile, colour: str) -> None:
    chart.line(sorted(profile.fitted or profile.points), colour, width=1.6)
    for x, y in profile.points:
        chart.dot(x, y, colour, radius=3, title=_title(f"{short_number(x)} parameters", y))
    if profile.minimum:
        chart.dot(*profile.minimum, colour, radius=5.5, hollow=True, title=_title("minimum", profile.minimum[1]))


def _label_profiles(chart: Chart, profiles: Sequence[Profile]) -> None:
    """The budget at each profile's right end, pushed apart where two would touch."""
    ends = [max(profile.fitted or profile.points) for profile in profiles]
    order = sorted(range(len(ends)), key=lambda number: -chart.y.place(ends[number][1]))
    floor = math.inf
    for number in order:
        x, y = ends[number]
        floor = max(min(chart.y.place(y) + 4, floor - 13), TOP)
        text = scientific(profiles[number].budget)
        chart.words.append(Word(chart.x.place(x) + 8, floor, text, _ramp(number, len(profiles)), bold=True))


def stack_chart(changes: Sequence[Change], x_label: str = "multiplier of effective compute") -> Markup:
    """One bar per change from ×1, with its interval; totals in another colour. An open interval ends at the frame."""
    if not changes:
        return NOTHING
    bottom = STACK_TOP + PITCH * len(changes)
    left = 24 + max(len(change.name) for change in changes) * LETTER
    x = axis_over(_edges_shown(changes), left, WIDTH - RIGHT - FIGURES, log=True)
    chart = Chart(x, Axis(0.0, float(len(changes)), float(bottom), float(STACK_TOP)), bottom + BOTTOM)
    for number, change in enumerate(changes):
        _draw_change(chart, change, len(changes) - number - 0.5, half=0.3)
    chart.line([(1.0, 0), (1.0, len(changes))], INK, width=1.2)
    return chart.render(x_label, "", y_ticks=0, x_grid=True)


def _edges_shown(changes: Sequence[Change]) -> list[float]:
    """Ends of bars and intervals, but none further than REACH times beyond the bars: one open end is not the scale."""
    bars = [1.0, *(min(max(change.multiplier, 1 / FURTHEST), FURTHEST) for change in changes)]
    least, most = min(bars) / REACH, max(bars) * REACH
    return bars + [min(max(edge, least), most) for change in changes for edge in (change.low, change.high)]


def _draw_change(chart: Chart, change: Change, at: float, half: float) -> None:
    colour = {"adopt": GREEN, "reject": ORANGE, "undecided": SOFT, "total": BLUE}[change.verdict]
    xs = (1.0, change.multiplier)
    chart.band(xs, [at - half] * 2, [at + half] * 2, colour, 0.55 if change.verdict != "total" else 0.8)
    chart.line([(change.low, at), (change.high, at)], INK, width=1.4)
    for edge in (change.low, change.high):
        chart.line([(edge, at - half / 2), (edge, at + half / 2)], INK, width=1.4)
    y = chart.y.place(at) + 4
    bold = change.verdict == "total"
    chart.words.append(Word(chart.x.start - 10, y, change.name, INK, "end", bold))
    figure = f"{multiple(change.multiplier)}× [{multiple(change.low)}, {multiple(change.high)}]"
    chart.words.append(Word(WIDTH - RIGHT, y, figure, INK if bold else SOFT, "end", bold))


def scientific(value: float) -> str:
    """3.2e19 → 3.2·10¹⁹."""
    power = math.floor(math.log10(value) + 1e-9)
    digits = f"{value / 10.0**power:.2g}"
    label = power_label(power)
    return label if digits == "1" else f"{digits}·{label}"


def _chart(x: Axis, ys: Sequence[float], *, log: bool) -> Chart:
    return Chart(x, axis_over(ys, HEIGHT - BOTTOM, TOP, log=log), HEIGHT)


def _draw_ribbon(chart: Chart, ribbon: Ribbon, colour: str, dash: str = "") -> None:
    for opacity, (_, lows, highs) in zip(OPACITIES, _widest_first(ribbon.bands), strict=False):
        chart.band(ribbon.xs, lows, highs, colour, opacity)
    chart.line(list(zip(ribbon.xs, ribbon.values, strict=True)), colour, width=1.6, dash=dash)


def _widest_first(bands: Sequence[tuple[float, T, T]]) -> list[tuple[float, T, T]]:
    return sorted(bands, key=lambda band: -band[0])


def _ramp(number: int, count: int) -> str:
    """Colour `number` of `count` in order, from blue to orange."""
    share = round(100 * number / max(count - 1, 1))
    return f"color-mix(in oklab, {ORANGE} {share}%, {BLUE})"


def _title(name: str, loss: float) -> str:
    return f"{name} · {loss:.4g}".removeprefix(" · ")
