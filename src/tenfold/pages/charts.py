"""The charts of every page: marks on two axes, a legend, one template. Inline SVG without script or network.

A chart begins as `plot` (values on both axes) or as `rows` (one row for each thing, values along x). Its methods add
marks, and `render` makes the SVG. `line_chart` is the whole of the most common one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from tenfold.core import power_of_ten, short
from tenfold.pages.style import COLOURS, INK, SOFT, template_environment

WIDTH, FULL_WIDTH = 520, 1040
"""Pixels of a chart in half a page, and across it; letters keep their size in both."""
HEIGHT, LOW = 320, 240
"""Pixels of a chart, and of one that shows little."""
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 44, 42
EDGE = 6  # where what has no axis on its left begins
SWATCH, LEGEND_ROW = 10, 18
LETTER = 6.6
"""Width of a letter in a chart, about, in pixels."""
BETWEEN_LABELS = 6
DECADES_FROM, ROUND_FROM = 30, 4  # ratios of the ends of a logarithmic axis: powers of ten from the first on,
# 1, 2 and 5 of each decade from the second on, and evenly spaced round numbers below
MOST_POINTS = 400  # more than a chart this wide can show
NOTHING = Markup('<p class="none">nothing recorded</p>')
"""In place of a chart without data."""


# Axes


@dataclass(frozen=True)
class Tick:
    """A place on an axis in pixels, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` onto pixels from `start` to `end`; a value outside is held at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Pixel of a value."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[Tick]:
        """About `count` round values; powers of ten where the axis spans several."""
        if self.log and self.high / self.low > DECADES_FROM:
            return [Tick(self.place(10.0**power), power_of_ten(power)) for power in self._powers(count)]
        if self.log and self.high / self.low > ROUND_FROM:
            return [Tick(self.place(value), short(value)) for value in self._ones_twos_fives()]
        return [Tick(self.place(value), short(value)) for value in round_numbers(self.low, self.high, count)]

    def _powers(self, count: int) -> range:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return range(first, last + 1, max(1, math.ceil((last - first + 1) / (count + 1))))

    def _ones_twos_fives(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


def axis_over(values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.05) -> Axis:
    """An axis that holds all values, with a share `margin` of air on both sides."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** margin, 1.01)
        return Axis(low / air, high * air, start, end, log=True)
    air = (high - low) * margin or abs(high) * 0.05 or 1.0
    return Axis(low - air, high + air, start, end)


def round_numbers(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def spaced(ticks: Sequence[Tick]) -> list[Tick]:
    """Ticks without those whose label would touch its left neighbour's."""
    kept = list(ticks[:1])
    for _, tick in pairwise(ticks):
        if tick.at - kept[-1].at > LETTER * (len(tick.label) + len(kept[-1].label)) / 2 + BETWEEN_LABELS:
            kept.append(tick)
    return kept


# Marks


@dataclass(frozen=True)
class Paint:
    """A colour and how strongly it covers, from 0 to 1."""

    colour: str
    strength: float = 1.0


@dataclass(frozen=True)
class Area:
    """A filled shape; hovering shows its title."""

    path: str
    paint: Paint
    title: str = ""


@dataclass(frozen=True)
class Stroke:
    """A line drawn along a path."""

    path: str
    colour: str
    width: float = 1.8
    dash: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle; hovering shows its title."""

    x: float
    y: float
    colour: str
    radius: float = 3.5
    title: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Word:
    """A text, by default with a halo so that lines do not cross it."""

    x: float
    y: float
    text: str
    colour: str = SOFT
    anchor: str = "start"
    bold: bool = False
    halo: bool = True


@dataclass(frozen=True)
class Swatch:
    """The square of a legend."""

    x: float
    y: float
    paint: Paint


@dataclass
class Chart:
    """Marks collected in one pair of axes. Later marks lie on earlier ones of their kind.

    `band`, `line`, `dot` and `upright` take values of both axes; `box`, `whisker` and `cut` take values of x and
    pixels of y; `write` takes pixels.
    """

    x: Axis
    y: Axis
    height: float
    width: float = WIDTH
    areas: list[Area] = field(default_factory=list)
    strokes: list[Stroke] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    swatches: list[Swatch] = field(default_factory=list)

    def band(
        self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], paint: Paint, title: str = ""
    ) -> None:
        """Filled between two curves over `xs`."""
        there = [self._at(*point) for point in zip(xs, highs, strict=True)]
        back = [self._at(*point) for point in zip(xs, lows, strict=True)][::-1]
        self.areas.append(Area("M" + " L".join(there + back) + " Z", paint, title))

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.8, dash: str = "") -> None:
        """A curve; drawn if it has a point."""
        if points:
            self.strokes.append(Stroke("M" + " L".join(self._at(*point) for point in points), colour, width, dash))

    def dot(
        self, x: float, y: float, colour: str, *, radius: float = 3.5, title: str = "", hollow: bool = False
    ) -> None:
        """A point."""
        self.dots.append(Dot(self.x.place(x), self.y.place(y), colour, radius, title, hollow))

    def upright(self, x: float, low: float, high: float, colour: str, width: float) -> None:
        """A vertical interval."""
        self.line([(x, low), (x, high)], colour, width)

    def box(self, begin: float, end: float, top: float, height: float, paint: Paint, title: str = "") -> None:
        """A bar from one value of x to another."""
        left, right = sorted((self.x.place(begin), self.x.place(end)))
        path = f"M{left:.2f},{top:.1f} H{right:.2f} V{top + height:.1f} H{left:.2f} Z"
        self.areas.append(Area(path, paint, title))

    def whisker(self, low: float, high: float, middle: float, half: float = 4) -> None:
        """An interval of x as a line with two ends, `half` pixels high on either side."""
        ends = (self.x.place(low), self.x.place(high))
        caps = [f"M{x:.2f},{middle - half:.1f} V{middle + half:.1f}" for x in ends]
        self.strokes.append(Stroke(" ".join([f"M{ends[0]:.2f},{middle:.1f} H{ends[1]:.2f}", *caps]), INK, 1.4))

    def cut(self, at: float, top: float, bottom: float, colour: str, width: float, dash: str = "") -> None:
        """An upright line at a value of x."""
        self.strokes.append(Stroke(f"M{self.x.place(at):.2f},{top:.1f} V{bottom:.1f}", colour, width, dash))

    def write(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = SOFT,
        anchor: str = "start",
        *,
        bold: bool = False,
        halo: bool = True,
    ) -> None:
        """A text at pixels; `anchor` says which of its points lies there: start, middle or end."""
        self.words.append(Word(x, y, text, colour, anchor, bold, halo))

    def legend(self, entries: Mapping[str, Paint]) -> None:
        """Names beside their paint from the left, in as many rows as they need."""
        for (name, paint), (x, y) in zip(entries.items(), _legend_places(entries, self.width), strict=True):
            self.swatches.append(Swatch(x, y, paint))
            self.write(x + SWATCH + 5, y + 9, name, INK)

    def _at(self, x: float, y: float) -> str:
        return f"{self.x.place(x):.1f},{self.y.place(y):.1f}"

    def render(
        self, x_label: str, y_label: str = "", *, x_ticks: int = 6, x_grid: bool = False, title: str = ""
    ) -> Markup:
        """The chart as SVG; `title` for those who cannot see it, unless the labels say enough."""
        svg = template_environment().get_template("chart.svg.jinja")
        return Markup(
            svg.render(
                chart=self,
                left=self.x.start,
                right=self.x.end,
                top=min(self.y.start, self.y.end),
                bottom=max(self.y.start, self.y.end),
                title=title or f"{y_label} over {x_label}",
                x_label=x_label,
                y_label=y_label,
                y_label_x=4,
                x_ticks=spaced(self.x.ticks(x_ticks)),
                y_ticks=self.y.ticks(5) if y_label else [],
                x_grid=x_grid,
            )
        )


# Kinds of charts


def plot(
    x: Axis,
    low: float,
    high: float,
    entries: Mapping[str, Paint] | None = None,
    *,
    height: float = HEIGHT,
    log: bool = False,
) -> Chart:
    """An empty chart with values from `low` to `high` upwards and a legend of `entries` above it."""
    entries = entries or {}
    top = TOP - LEGEND_ROW + _legend_height(entries, WIDTH) - EDGE
    chart = Chart(x, Axis(low, high, height - BOTTOM, top, log), height)
    chart.legend(entries)
    return chart


def rows(
    x: Axis, count: int, pitch: float, entries: Mapping[str, Paint] | None = None, *, width: float = WIDTH
) -> Chart:
    """An empty chart of `count` rows, each `pitch` pixels high: `y.place(0)` is the top of the first."""
    entries = entries or {}
    top = _legend_height(entries, width) + 4
    bottom = top + pitch * count
    chart = Chart(x, Axis(0.0, float(count), top, bottom), bottom + BOTTOM, width)
    chart.legend(entries)
    return chart


def _legend_places(entries: Mapping[str, Paint], wide: float) -> list[tuple[float, float]]:
    """Upper left corner of each swatch."""
    places, x, y = [], float(EDGE), 4.0
    for name in entries:
        width = SWATCH + 5 + len(name) * LETTER + 14
        if x > EDGE and x + width > wide:
            x, y = float(EDGE), y + LEGEND_ROW
        places.append((x, y))
        x += width
    return places


def _legend_height(entries: Mapping[str, Paint], wide: float) -> float:
    """Down to where the chart may begin; EDGE where there is no legend."""
    lowest = max((y for _, y in _legend_places(entries, wide)), default=-LEGEND_ROW)
    return lowest + LEGEND_ROW + EDGE


def line_chart(
    curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, *, from_zero: bool = False
) -> Markup:
    """Curves by name, each with its last value in the legend. Curves without points are left out."""
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    drawn = {name: thin(points) for name, points in finite.items() if points}
    if not drawn:
        return NOTHING
    xs = [x for points in drawn.values() for x, _ in points]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(drawn))]
    entries = {
        f"{name} {short(points[-1][1])}": Paint(colour)
        for (name, points), colour in zip(drawn.items(), colours, strict=True)
    }
    x = Axis(min(xs), max(*xs, min(xs) + 1), LEFT, WIDTH - RIGHT)
    chart = plot(x, *y_range(drawn.values(), from_zero=from_zero), entries, height=LOW)
    for points, colour in zip(drawn.values(), colours, strict=True):
        chart.line(points, colour)
    return chart.render(x_label, y_label)


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of them, the last one always among them; each stands for the mean of its neighbours."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def y_range(curves: Iterable[Sequence[tuple[float, float]]], *, from_zero: bool) -> tuple[float, float]:
    """What the axis shows: every curve from its first twentieth on, so that the start does not flatten the rest."""
    shown = [y for points in curves for _, y in points[len(points) // 20 :]]
    low = 0.0 if from_zero else min(shown)
    high = max(shown)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return (low if from_zero else low - margin), high + margin
