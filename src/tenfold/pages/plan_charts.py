"""Charts of a plan: stacked bars, Pareto front, goodput over size, tornado.

Pure functions from plain values; they know nothing of layouts or of what was planned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tenfold.core import short
from tenfold.pages.charts import (
    EDGE,
    LEFT,
    LETTER,
    NOTHING,
    RIGHT,
    WIDTH,
    Axis,
    Chart,
    Paint,
    axis_over,
    plot,
    rows,
)
from tenfold.pages.plan import MOST_MEASURED, FleetLine, Front, FrontPoint, Lever, Sensitivity
from tenfold.pages.style import BLUE, CARD, COLOURS, GREEN, INK, ORANGE, SOFT

BAR_ROW, BAR_TOP, BAR_HEIGHT = 68, 36, 18  # of stacked bars: a row, and in it the bar below two lines of words
WHISKER = 24  # from the bar's top down to the line of its interval, which would hide the percentages inside
LEVER_ROW, LEVER_HEIGHT = 34, 20  # of the tornado
FIGURE, NO_FIT = 56, 90  # room beside a bar for a figure, and for the words that nothing fits
LONGEST = 30  # letters of a name beside a bar
STRONG = 0.7  # strength of a paint from which on words on it have the page's colour
PERCENTAGE = 32  # room that the percentage of a part needs


@dataclass(frozen=True)
class Bar:
    """One stacked bar: what stands above it on the left and right, its parts, and the interval of their sum."""

    name: str
    detail: str
    figure: str
    parts: Mapping[str, float]
    interval: tuple[float, float] | None = None

    @property
    def total(self) -> float:
        """Length of the bar."""
        return sum(self.parts.values())


# Stacked bars


def bars_picture(
    bars: Sequence[Bar], paints: Mapping[str, Paint], x_label: str, *, limits: Mapping[str, float] | None = None
) -> Markup:
    """Stacked bars from zero, parts in the order of `paints`; `limits`, by name, are marks across every bar.

    Every part must have a paint; what is zero everywhere is left out of the legend.
    """
    if not bars:
        return NOTHING
    limits = limits or {}
    shown = {name: paint for name, paint in paints.items() if any(bar.parts.get(name, 0) > 0 for bar in bars)}
    x = Axis(0.0, _longest(bars, limits), EDGE, WIDTH - RIGHT)
    chart = rows(x, len(bars), BAR_ROW, shown | dict.fromkeys(limits, Paint(ORANGE)))
    for number, bar in enumerate(bars):
        _draw_bar(chart, bar, shown, chart.y.place(number), list(limits.values()))
    return chart.render(x_label, x_grid=True, title=_bars_title(bars, x_label))


def _longest(bars: Sequence[Bar], limits: Mapping[str, float]) -> float:
    ends = [bar.total for bar in bars] + [bar.interval[1] for bar in bars if bar.interval]
    return 1.03 * max([*ends, *limits.values()]) or 1.0


def _bars_title(bars: Sequence[Bar], x_label: str) -> str:
    """For those who cannot see it."""
    return f"{x_label} by part. " + "; ".join(f"{bar.name}: {bar.figure}" for bar in bars) + "."


def _draw_bar(chart: Chart, bar: Bar, paints: Mapping[str, Paint], top: float, limits: Sequence[float]) -> None:
    beyond = any(bar.total > limit for limit in limits)
    chart.write(EDGE, top + 16, bar.name, INK, bold=True)
    chart.write(WIDTH - RIGHT, top + 16, bar.figure, ORANGE if beyond else INK, "end", bold=True)
    chart.write(EDGE, top + 30, bar.detail)
    cuts = [chart.x.place(limit) for limit in limits]
    at = 0.0
    for name, paint in paints.items():
        if bar.parts.get(name, 0.0) > 0:
            _draw_part(chart, bar, name, at, paint, top + BAR_TOP, cuts)
            at += bar.parts[name]
    for limit in limits:
        chart.cut(limit, top + BAR_TOP - 4, top + BAR_TOP + BAR_HEIGHT + 4, ORANGE, 3)
    if bar.interval:
        chart.whisker(*bar.interval, top + BAR_TOP + WHISKER)


def _draw_part(
    chart: Chart, bar: Bar, name: str, begin: float, paint: Paint, top: float, cuts: Sequence[float]
) -> None:
    """One part and its share, where there is room for that."""
    size = bar.parts[name]
    share = size / bar.total
    chart.box(begin, begin + size, top, BAR_HEIGHT, paint, f"{name}: {short(size)} ({share:.1%})")
    free, middle = _widest_piece(chart.x.place(begin), chart.x.place(begin + size), cuts)
    if free > PERCENTAGE:
        chart.write(middle, top + 13, f"{share:.0%}", CARD if paint.strength > STRONG else INK, "middle", halo=False)


def _widest_piece(left: float, right: float, cuts: Sequence[float]) -> tuple[float, float]:
    """Width and middle of the widest piece between two pixels that no cut crosses."""
    edges = [left, *sorted(cut for cut in cuts if left < cut < right), right]
    return max((end - begin, (begin + end) / 2) for begin, end in pairwise(edges))


# The front


def front_picture(front: Front) -> Markup:
    """Candidates with their intervals; those on the front are joined and named where there is room."""
    if not front.points:
        return NOTHING
    ys = [edge for point in front.points for edge in (point.low, point.high)]
    x = axis_over([point.x for point in front.points], LEFT, WIDTH - RIGHT, margin=0.08)
    y = axis_over(ys, 0.0, 1.0, margin=0.1)
    best = sorted((point for point in front.points if point.best), key=lambda point: point.x)
    others = [point for point in front.points if not point.best]
    entries = {"Pareto front": Paint(BLUE)} | ({"others": Paint(SOFT)} if others else {})
    chart = plot(x, y.low, y.high, entries)
    _draw_points(chart, others, SOFT, 3.0)
    chart.line([(point.x, point.y) for point in best], BLUE, width=1.4, dash="5 4")
    _draw_points(chart, best, BLUE, 5.0)
    _name_points(chart, best)
    return chart.render(front.x_label, front.y_label)


def _draw_points(chart: Chart, points: Sequence[FrontPoint], colour: str, radius: float) -> None:
    for point in points:
        chart.upright(point.x, point.low, point.high, colour, 1.2)
        title = f"{point.name}: {point.x:.4g}, {point.y:.4g} [{point.low:.4g}, {point.high:.4g}]"
        chart.dot(point.x, point.y, colour, radius=radius, title=title)


def _name_points(chart: Chart, points: Sequence[FrontPoint]) -> None:
    """Names on the side of the front where the line does not run; none where it would run into another."""
    falls = not points or points[0].y >= points[-1].y
    taken: list[tuple[float, float, float]] = []
    for point in points:
        x, y, width = chart.x.place(point.x), chart.y.place(point.y), len(point.name) * LETTER
        places = [("start", x + 9, y - 9 if falls else y + 17), ("end", x - 9, y + 17 if falls else y - 9)]
        for anchor, at, height in places:
            left = at if anchor == "start" else at - width
            inside = chart.x.start <= left and left + width <= WIDTH - EDGE
            if inside and all(left > e or left + width < b or abs(height - h) > 13 for b, e, h in taken):
                chart.write(at, height, point.name, INK, anchor)
                taken.append((left, left + width, height))
                break


# The fleet


def fleet_picture(lines: Sequence[FleetLine]) -> Markup:
    """Goodput over the number of devices, one line with its band for each mode.

    Sizes that nobody has measured are shaded.
    """
    sizes = [float(point.devices) for line in lines for point in line.points]
    if not sizes:
        return NOTHING
    x = axis_over(sizes, LEFT, WIDTH - RIGHT, log=True, margin=0.02)
    order = (BLUE, ORANGE, GREEN, *COLOURS[3:])
    colours = {line.mode: order[number % len(order)] for number, line in enumerate(lines)}
    chart = plot(x, 0.0, 100.0, {mode: Paint(colour) for mode, colour in colours.items()})
    _shade_extrapolation(chart)
    for line in lines:
        _draw_mode(chart, line, colours[line.mode])
    return chart.render("devices", "goodput, %")


def _shade_extrapolation(chart: Chart) -> None:
    if chart.x.high <= MOST_MEASURED:
        return
    begin = max(float(MOST_MEASURED), chart.x.low)
    chart.band([begin, chart.x.high], [0.0, 0.0], [100.0, 100.0], Paint(SOFT, 0.14), "larger than anything measured")
    chart.write(chart.x.end, chart.y.end - 6, "shaded: extrapolation", SOFT, "end")


def _draw_mode(chart: Chart, line: FleetLine, colour: str) -> None:
    points = sorted(line.points, key=lambda point: point.devices)
    xs = [float(point.devices) for point in points]
    lows, highs = [100 * point.low for point in points], [100 * point.high for point in points]
    chart.band(xs, lows, highs, Paint(colour, 0.2))
    chart.line([(point.devices, 100 * point.goodput) for point in points], colour)
    for point in points:
        title = f"{line.mode}, {point.devices:,} devices: {point.goodput:.1%} [{point.low:.1%}, {point.high:.1%}]"
        chart.dot(point.devices, 100 * point.goodput, colour, radius=3, title=title)


# The tornado


def tornado_picture(sensitivity: Sensitivity) -> Markup:
    """What the outcome changes by when each thing is made worse and better, the widest bar on top."""
    levers = sorted(sensitivity.levers, key=_reach, reverse=True)
    if not levers:
        return NOTHING
    shared = _shared_settings(levers)
    chart = rows(_tornado_axis(levers), len(levers), LEVER_ROW, _tornado_entries(levers, shared))
    for number, lever in enumerate(levers):
        _draw_lever(chart, lever, chart.y.place(number), "" if shared else _settings(lever))
    chart.cut(0.0, chart.y.start, chart.y.end, INK, 1.2)
    return chart.render(f"change of {sensitivity.outcome}, %", x_grid=True, title=_tornado_title(sensitivity, levers))


def _tornado_title(sensitivity: Sensitivity, levers: Sequence[Lever]) -> str:
    """For those who cannot see it."""
    told = [
        f"{lever.name} {setting}: {'nothing fits' if change is None else _signed(change)}"
        for lever in levers
        for change, setting, _ in _sides(lever)
    ]
    return f"Change of {sensitivity.outcome}. {'; '.join(told)}."


def _tornado_axis(levers: Sequence[Lever]) -> Axis:
    """Percent, between names on the left and with room for figures at the ends of bars on both sides."""
    changes = [0.0, *(100 * change for lever in levers for change in (lever.worse, lever.better) if change is not None)]
    low, high = min(changes), max(changes)
    stuck = any(_stuck(lever) for lever in levers)
    names = EDGE + max(len(_short(text)) for lever in levers for text in (lever.name, _settings(lever))) * LETTER + 8
    left = names + (FIGURE if low < 0 else 0)
    right = WIDTH - RIGHT - (NO_FIT if stuck else FIGURE if high > 0 else 0)
    return Axis(low, high if high > low else low + 1.0, left, right)


def _reach(lever: Lever) -> float:
    """Width of a lever's bar; what fits no longer reaches further than everything else."""
    changes = [0.0, lever.worse or 0.0, lever.better or 0.0]
    return math.inf if _stuck(lever) else max(changes) - min(changes)


def _stuck(lever: Lever) -> bool:
    return any(setting and change is None for change, setting, _ in _sides(lever))


def _sides(lever: Lever) -> list[tuple[float | None, str, str]]:
    """Change, setting and colour of what was tried."""
    sides = [(lever.worse, lever.worse_setting, ORANGE), (lever.better, lever.better_setting, BLUE)]
    return [side for side in sides if side[1]]


def _settings(lever: Lever) -> str:
    """−17% or +20%."""
    return " or ".join(setting for _, setting, _ in _sides(lever))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _shared_settings(levers: Sequence[Lever]) -> tuple[str, str] | None:
    """Those of all levers if they are the same for all."""
    settings = {(lever.worse_setting, lever.better_setting) for lever in levers}
    return settings.pop() if len(settings) == 1 else None


def _tornado_entries(levers: Sequence[Lever], shared: tuple[str, str] | None) -> dict[str, Paint]:
    worse, better = shared or ("made worse", "made better")
    tried = {colour for lever in levers for _, _, colour in _sides(lever)}
    return {name: Paint(colour, 0.75) for name, colour in ((worse, ORANGE), (better, BLUE)) if colour in tried}


def _draw_lever(chart: Chart, lever: Lever, top: float, settings: str) -> None:
    """Both bars in one row; one above the other where both lie on the same side."""
    middle = top + LEVER_ROW / 2
    chart.write(EDGE, middle + (-2 if settings else 4), _short(lever.name), INK)
    if settings:
        chart.write(EDGE, middle + 12, _short(settings))
    drawn = _sides(lever)
    signs = [math.copysign(1, math.inf if change is None else change) for change, _, _ in drawn]
    stacked = len(drawn) == 2 and signs[0] == signs[1]
    height = LEVER_HEIGHT / (2 if stacked else 1)
    for number, (change, setting, colour) in enumerate(drawn):
        y = middle - LEVER_HEIGHT / 2 + (number * height if stacked else 0)
        words = y + height / 2 + 4 + ((-2, 2)[number] if stacked else 0)
        if change is None:
            chart.write(chart.x.place(0.0) + 5, words, "nothing fits", colour)
        else:
            title = f"{lever.name}, {setting}: {_signed(change)}"
            chart.box(0.0, 100 * change, y, height, Paint(colour, 0.75), title)
            _write_change(chart, change, words)


def _write_change(chart: Chart, change: float, y: float) -> None:
    """Beside the end of its bar."""
    end = chart.x.place(100 * change)
    anchor, x = ("start", end + 5) if change >= 0 else ("end", end - 5)
    chart.write(x, y, _signed(change), SOFT, anchor)


def _signed(change: float) -> str:
    """+3.1%, −2.0%, +120%."""
    return f"{change:+.{0 if abs(change) >= 0.9995 else 1}%}".replace("-", "−")
