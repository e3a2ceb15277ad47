"""Pictures of a plan as inline SVG: stacked bars, Pareto front, goodput over size, tornado.

Pure functions from plain values; they know nothing of layouts or of what was planned.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tenfold.pages.charts import short_number
from tenfold.pages.marks import BOTTOM, INK, LETTER, RIGHT, SOFT, Area, Axis, Chart, Stroke, Word, axis_over
from tenfold.pages.plan import FleetLine, Front, FrontPoint, Lever, Sensitivity
from tenfold.pages.scaling_charts import BLUE, COLOURS, GREEN, NOTHING, ORANGE
from tenfold.planner.calibration.calibrated import MOST_MEASURED

WIDTH = 520  # of half a page, so that letters keep their size there
LEFT = 52
EDGE = 6  # where pictures without an axis on the left begin
SWATCH, LEGEND_ROW = 10, 18
BAR_ROW, BAR_TOP, BAR_HEIGHT = 68, 36, 18  # of stacked bars: a row, and in it the bar below two lines of words
WHISKER = 24  # from the bar's top down to the line of its interval, which would hide the percentages inside
LEVER_ROW, LEVER_HEIGHT = 34, 20  # of the tornado
FIGURE, NO_FIT = 56, 90  # room beside a bar for a figure, and for the words that nothing fits
LONGEST = 30  # letters of a name beside a bar
HEIGHT = 320
STRONG = 0.7  # strength of a paint from which on words on it have the page's colour
PERCENTAGE = 32  # room that the percentage of a part needs


@dataclass(frozen=True)
class Paint:
    """How a part is drawn. Parts of one kind share a colour and differ in strength."""

    colour: str
    strength: float


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
    entries = [*shown.items(), *((name, Paint(ORANGE, 1.0)) for name in limits)]
    top = _legend_height(entries)
    bottom = top + BAR_ROW * len(bars) + 4
    x = Axis(0.0, _longest(bars, limits), EDGE, WIDTH - RIGHT)
    chart = Chart(x, Axis(0.0, 1.0, bottom, top), bottom + BOTTOM, WIDTH)
    _legend(chart, entries)
    for number, bar in enumerate(bars):
        _draw_bar(chart, bar, shown, top + number * BAR_ROW, list(limits.values()))
    return chart.render(x_label, "", y_ticks=0, x_grid=True, title=_bars_title(bars, x_label))


def _longest(bars: Sequence[Bar], limits: Mapping[str, float]) -> float:
    ends = [bar.total for bar in bars] + [bar.interval[1] for bar in bars if bar.interval]
    return 1.03 * max([*ends, *limits.values()]) or 1.0


def _bars_title(bars: Sequence[Bar], x_label: str) -> str:
    """For those who cannot see it."""
    return f"{x_label} by part. " + "; ".join(f"{bar.name}: {bar.figure}" for bar in bars) + "."


def _draw_bar(chart: Chart, bar: Bar, paints: Mapping[str, Paint], top: float, limits: Sequence[float]) -> None:
    beyond = any(bar.total > limit for limit in limits)
    chart.words.append(Word(EDGE, top + 16, bar.name, INK, bold=True))
    chart.words.append(Word(WIDTH - RIGHT, top + 16, bar.figure, ORANGE if beyond else INK, "end", bold=True))
    chart.words.append(Word(EDGE, top + 30, bar.detail))
    cuts = [chart.x.place(limit) for limit in limits]
    at = 0.0
    for name, paint in paints.items():
        if bar.parts.get(name, 0.0) > 0:
            _draw_part(chart, bar, name, at, paint, top + BAR_TOP, cuts)
            at += bar.parts[name]
    for cut in cuts:
        line = f"M{cut:.2f},{top + BAR_TOP - 4:.1f} V{top + BAR_TOP + BAR_HEIGHT + 4:.1f}"
        chart.strokes.append(Stroke(line, ORANGE, 3))
    if bar.interval:
        _whisker(chart, bar.interval, top + BAR_TOP + WHISKER)


def _draw_part(
    chart: Chart, bar: Bar, name: str, begin: float, paint: Paint, top: float, cuts: Sequence[float]
) -> None:
    """One part and its share, where there is room for that."""
    size = bar.parts[name]
    left, right = chart.x.place(begin), chart.x.place(begin + size)
    share = size / bar.total
    title = f"{name}: {short_number(size)} ({share:.1%})"
    chart.areas.append(Area(_box(left, right, top, BAR_HEIGHT), paint.colour, paint.strength, title))
    free, middle = _widest_piece(left, right, cuts)
    if free > PERCENTAGE:
        colour = "var(--card)" if paint.strength > STRONG else INK
        chart.words.append(Word(middle, top + 13, f"{share:.0%}", colour, "middle", halo=False))


def _widest_piece(left: float, right: float, cuts: Sequence[float]) -> tuple[float, float]:
    """Width and middle of the widest piece between two pixels that no cut crosses."""
    edges = [left, *sorted(cut for cut in cuts if left < cut < right), right]
    return max((end - begin, (begin + end) / 2) for begin, end in pairwise(edges))


def _whisker(chart: Chart, interval: tuple[float, float], middle: float) -> None:
    """An interval as a line with two ends, centred on a pixel."""
    low, high = (chart.x.place(edge) for edge in interval)
    ends = [f"M{x:.2f},{middle - 4:.1f} V{middle + 4:.1f}" for x in (low, high)]
    chart.strokes.append(Stroke(" ".join([f"M{low:.2f},{middle:.1f} H{high:.2f}", *ends]), INK, 1.4))


def _box(left: float, right: float, top: float, height: float) -> str:
    """A rectangle as a path."""
    return f"M{left:.2f},{top:.1f} H{right:.2f} V{top + height:.1f} H{left:.2f} Z"


def front_picture(front: Front) -> Markup:
    """Candidates with their intervals; those on the front are joined and named where there is room."""
    if not front.points:
        return NOTHING
    ys = [edge for point in front.points for edge in (point.low, point.high)]
    x = axis_over([point.x for point in front.points], LEFT, WIDTH - RIGHT, margin=0.08)
    chart = Chart(x, axis_over(ys, HEIGHT - BOTTOM, 46, margin=0.1), HEIGHT, WIDTH)
    best = sorted((point for point in front.points if point.best), key=lambda point: point.x)
    others = [point for point in front.points if not point.best]
    _draw_points(chart, others, SOFT, 3.0)
    chart.line([(point.x, point.y) for point in best], BLUE, width=1.4, dash="5 4")
    _draw_points(chart, best, BLUE, 5.0)
    _name_points(chart, best)
    chart.legend([("Pareto front", BLUE), *([("others", SOFT)] if others else [])])
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
                chart.words.append(Word(at, height, point.name, INK, anchor))
                taken.append((left, left + width, height))
                break


def fleet_picture(lines: Sequence[FleetLine]) -> Markup:
    """Goodput over the number of devices, one line with its band for each mode.

    Sizes that nobody has measured are shaded.
    """
    sizes = [float(point.devices) for line in lines for point in line.points]
    if not sizes:
        return NOTHING
    x = axis_over(sizes, LEFT, WIDTH - RIGHT, log=True, margin=0.02)
    chart = Chart(x, Axis(0.0, 100.0, HEIGHT - BOTTOM, 46), HEIGHT, WIDTH)
    _shade_extrapolation(chart)
    for line, colour in zip(lines, _mode_colours(lines), strict=True):
        _draw_mode(chart, line, colour)
    chart.legend([(line.mode, colour) for line, colour in zip(lines, _mode_colours(lines), strict=True)])
    return chart.render("devices", "goodput, %")


def _mode_colours(lines: Sequence[FleetLine]) -> list[str]:
    order = (BLUE, ORANGE, GREEN, *COLOURS[3:])
    return [order[number % len(order)] for number in range(len(lines))]


def _shade_extrapolation(chart: Chart) -> None:
    if chart.x.high <= MOST_MEASURED:
        return
    begin = max(float(MOST_MEASURED), chart.x.low)
    chart.band([begin, chart.x.high], [0.0, 0.0], [100.0, 100.0], SOFT, 0.14, "larger than anything measured")
    chart.words.append(Word(chart.x.end, chart.y.end - 6, "shaded: extrapolation", SOFT, "end"))


def _draw_mode(chart: Chart, line: FleetLine, colour: str) -> None:
    points = sorted(line.points, key=lambda point: point.devices)
    xs = [float(point.devices) for point in points]
    lows, highs = [100 * point.low for point in points], [100 * point.high for point in points]
    chart.band(xs, lows, highs, colour, 0.2)
    chart.line([(point.devices, 100 * point.goodput) for point in points], colour)
    for point in points:
        title = f"{line.mode}, {point.devices:,} devices: {point.goodput:.1%} [{point.low:.1%}, {point.high:.1%}]"
        chart.dot(point.devices, 100 * point.goodput, colour, radius=3, title=title)


def tornado_picture(sensitivity: Sensitivity) -> Markup:
    """What the outcome changes by when each thing is made worse and better, the widest bar on top."""
    levers = sorted(sensitivity.levers, key=_reach, reverse=True)
    if not levers:
        return NOTHING
    top = LEGEND_ROW + 14
    bottom = top + LEVER_ROW * len(levers)
    chart = Chart(_tornado_axis(levers), Axis(0.0, 1.0, bottom, top), bottom + BOTTOM, WIDTH)
    shared = _shared_settings(levers)
    _tornado_legend(chart, levers, shared)
    for number, lever in enumerate(levers):
        _draw_lever(chart, lever, top + number * LEVER_ROW, "" if shared else _settings(lever))
    chart.line([(0, 0), (0, 1)], INK, width=1.2)
    return chart.render(f"change of {sensitivity.outcome}, %", "", y_ticks=0, x_grid=True)


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


def _tornado_legend(chart: Chart, levers: Sequence[Lever], shared: tuple[str, str] | None) -> None:
    worse, better = shared or ("made worse", "made better")
    tried = {colour for lever in levers for _, _, colour in _sides(lever)}
    _legend(chart, [(n, Paint(c, 0.75)) for n, c in ((worse, ORANGE), (better, BLUE)) if c in tried])


def _draw_lever(chart: Chart, lever: Lever, top: float, settings: str) -> None:
    """Both bars in one row; one above the other where both lie on the same side."""
    middle = top + LEVER_ROW / 2
    chart.words.append(Word(EDGE, middle + (-2 if settings else 4), _short(lever.name), INK))
    if settings:
        chart.words.append(Word(EDGE, middle + 12, _short(settings)))
    drawn = _sides(lever)
    signs = [math.copysign(1, math.inf if change is None else change) for change, _, _ in drawn]
    stacked = len(drawn) == 2 and signs[0] == signs[1]
    height = LEVER_HEIGHT / (2 if stacked else 1)
    for number, (change, setting, colour) in enumerate(drawn):
        y = middle - LEVER_HEIGHT / 2 + (number * height if stacked else 0)
        words = y + height / 2 + 4 + ((-2, 2)[number] if stacked else 0)
        if change is None:
            chart.words.append(Word(chart.x.place(0.0) + 5, words, "nothing fits", colour))
        else:
            _draw_change(chart, change, y, height, colour, f"{lever.name}, {setting}")
            _write_change(chart, change, words)


def _draw_change(chart: Chart, change: float, top: float, height: float, colour: str, name: str) -> None:
    zero, end = chart.x.place(0.0), chart.x.place(100 * change)
    path = _box(min(zero, end), max(zero, end), top, height)
    chart.areas.append(Area(path, colour, 0.75, f"{name}: {_signed(change)}"))


def _write_change(chart: Chart, change: float, y: float) -> None:
    """Beside the end of its bar."""
    end = chart.x.place(100 * change)
    anchor, x = ("start", end + 5) if change >= 0 else ("end", end - 5)
    chart.words.append(Word(x, y, _signed(change), SOFT, anchor))


def _signed(change: float) -> str:
    """+3.1%, −2.0%, +120%."""
    return f"{change:+.{0 if abs(change) >= 0.9995 else 1}%}".replace("-", "−")


def _legend(chart: Chart, entries: Sequence[tuple[str, Paint]]) -> None:
    """Swatches and names from the left, in as many rows as they need."""
    for (name, paint), (x, y) in zip(entries, _legend_places(entries), strict=True):
        chart.areas.append(Area(_box(x, x + SWATCH, y, SWATCH), paint.colour, paint.strength))
        chart.words.append(Word(x + SWATCH + 5, y + 9, name, INK))


def _legend_places(entries: Sequence[tuple[str, Paint]]) -> list[tuple[float, float]]:
    """Upper left corner of each swatch."""
    places, x, y = [], float(EDGE), 4.0
    for name, _ in entries:
        width = SWATCH + 5 + len(name) * LETTER + 14
        if x > EDGE and x + width > WIDTH:
            x, y = float(EDGE), y + LEGEND_ROW
        places.append((x, y))
        x += width
    return places


def _legend_height(entries: Sequence[tuple[str, Paint]]) -> float:
    return max((y for _, y in _legend_places(entries)), default=0.0) + LEGEND_ROW + 6
