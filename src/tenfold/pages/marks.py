"""Charts of marks on linear or logarithmic axes, as inline SVG: areas, strokes, dots and words.

Colours are the report's variables, so that a chart follows the page into dark mode.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup

from tenfold.pages.charts import Tick, nice_ticks, short_number, template_environment

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 58, 14, 44, 42
INK, SOFT = "var(--ink)", "var(--soft)"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LETTER = 6.6  # width of a letter of the legend, about


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` onto pixels from `start` to `end`; outside of it they are held at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Pixel of a value."""
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low) if self.log else self._share(value)
        return self.start + share * (self.end - self.start)

    def _share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[Tick]:
        """About `count` round values; powers of ten where the axis spans several."""
        if self.log and self.high / self.low > 30:
            return [Tick(self.place(10.0**power), power_label(power)) for power in self._powers(count)]
        if self.log and self.high / self.low > 4:
            return [Tick(self.place(value), short_number(value)) for value in self._ones_twos_fives()]
        return [Tick(self.place(value), short_number(value)) for value in nice_ticks(self.low, self.high, count)]

    def _powers(self, count: int) -> range:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return range(first, last + 1, max(1, math.ceil((last - first + 1) / (count + 1))))

    def _ones_twos_fives(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


def power_label(power: int) -> str:
    """-3 → 10⁻³."""
    return "10" + str(power).translate(SUPERSCRIPTS)


def axis_over(values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.05) -> Axis:
    """An axis that holds all values with some air on both sides."""
    low, high = min(values), max(values)
    if log:
        air = max((high / low) ** margin, 1.01)
        return Axis(low / air, high * air, start, end, log=True)
    air = (high - low) * margin or abs(high) * 0.05 or 1.0
    return Axis(low - air, high + air, start, end)


@dataclass(frozen=True)
class Area:
    """A filled shape; hovering shows its title."""

    path: str
    colour: str
    opacity: float
    title: str = ""


@dataclass(frozen=True)
class Stroke:
    """A drawn line."""

    path: str
    colour: str
    width: float = 1.8
    dash: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle in pixels; hovering shows its title."""

    x: float
    y: float
    colour: str
    radius: float = 3.5
    title: str = ""
    hollow: bool = False


@dataclass(frozen=True)
class Word:
    """A text in pixels, by default with a halo so that lines do not cross it."""

    x: float
    y: float
    text: str
    colour: str = SOFT
    anchor: str = "start"
    bold: bool = False
    halo: bool = True


@dataclass
class Chart:
    """Marks collected in one pair of axes; `render` makes the SVG. Coordinates given to its methods are values."""

    x: Axis
    y: Axis
    height: float = 300
    width: float = WIDTH
    areas: list[Area] = field(default_factory=list)
    strokes: list[Stroke] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def band(
        self,
        xs: Sequence[float],
        lows: Sequence[float],
        highs: Sequence[float],
        colour: str,
        opacity: float,
        title: str = "",
    ) -> None:
        """Filled between two curves."""
        there = [self._at(*point) for point in zip(xs, highs, strict=True)]
        back = [self._at(*point) for point in zip(xs, lows, strict=True)][::-1]
        self.areas.append(Area("M" + " L".join(there + back) + " Z", colour, opacity, title))

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1.8, dash: str = "") -> None:
        """A curve; drawn if it has a point."""
        if points:
            self.strokes.append(Stroke("M" + " L".join(self._at(*point) for point in points), colour, width, dash))

    def dot(
        self, x: float, y: float, colour: str, *, radius: float = 3.5, title: str = "", hollow: bool = False
    ) -> None:
        """A point, with what hovering shows."""
        self.dots.append(Dot(self.x.place(x), self.y.place(y), colour, radius, title, hollow))

    def upright(self, x: float, low: float, high: float, colour: str, width: float) -> None:
        """A vertical interval."""
        self.line([(x, low), (x, high)], colour, width)

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """(text, colour) pairs in one row, right-aligned above the chart."""
        sizes = [len(text) * LETTER + 22 for text, _ in entries]
        at = self.width - RIGHT - sum(sizes) + 8
        for (text, colour), size in zip(entries, sizes, strict=True):
            self.dots.append(Dot(at, 14, colour, 4))
            self.words.append(Word(at + 8, 18, text, INK))
            at += size

    def _at(self, x: float, y: float) -> str:
        return f"{self.x.place(x):.1f},{self.y.place(y):.1f}"

    def render(
        self,
        x_label: str,
        y_label: str,
        *,
        x_ticks: int = 6,
        y_ticks: int = 5,
        x_grid: bool = False,
        title: str = "",
    ) -> Markup:
        """The chart as SVG; `title` for those who cannot see it, unless the labels say enough."""
        template = template_environment().get_template("marks.svg.jinja")
        return Markup(
            template.render(
                width=self.width,
                height=self.height,
                left=self.x.start,
                right=self.x.end,
                top=self.y.end,
                bottom=self.y.start,
                title=title or f"{y_label} over {x_label}",
                x_label=x_label,
                y_label=y_label,
                y_label_x=4,
                x_ticks=spaced(self.x.ticks(x_ticks)),
                y_ticks=self.y.ticks(y_ticks) if y_ticks else [],
                x_grid=x_grid,
                areas=self.areas,
                strokes=self.strokes,
                dots=self.dots,
                words=self.words,
            )
        )


def spaced(ticks: Sequence[Tick]) -> list[Tick]:
    """Without labels that would touch their left neighbour."""
    kept = list(ticks[:1])
    for _, tick in pairwise(ticks):
        if tick.at - kept[-1].at > LETTER * (len(tick.label) + len(kept[-1].label)) / 2 + 6:
            kept.append(tick)
    return kept
