"""Line charts as inline SVG: no script, no network, readable in print."""

import functools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tenfold.core.text import duration
from tenfold.pages.palette import DARK, LIGHT

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 34
MOST_POINTS = 400  # more than a chart this wide can show


@dataclass(frozen=True)
class Tick:
    """A place on an axis and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """One curve as an SVG path."""

    name: str
    path: str
    last: str


@functools.cache
def template_environment() -> Environment:
    """Templates of the report: everything escaped, an undefined name is an error. Filters: short, duration, moment.

    One for all charts and pages, since compiling a template takes far longer than filling it.
    """
    environment = Environment(
        loader=PackageLoader("tenfold.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short_number, "duration": duration, "moment": moment}
    environment.globals |= {"light": LIGHT, "dark": DARK}
    return environment


def moment(at: float) -> str:
    """Seconds since 1970 as 2026-09-21 14:13:20 UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def line_chart(
    curves: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, *, from_zero: bool = False
) -> Markup:
    """Curves by name, in one pair of axes. Curves without points are left out."""
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    drawn = {name: thin(points) for name, points in finite.items() if points}
    if not drawn:
        return Markup('<p class="none">nothing recorded</p>')
    xs = [x for points in drawn.values() for x, _ in points]
    low, high = y_range(drawn.values(), from_zero=from_zero)
    x_low, x_high = min(xs), max(*xs, min(xs) + 1)

    def place_x(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        return HEIGHT - BOTTOM - (min(max(y, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    lines = [
        Line(
            name, "M" + " L".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points), short_number(points[-1][1])
        )
        for name, points in drawn.items()
    ]
    svg = template_environment().get_template("chart.svg.jinja")
    return Markup(
        svg.render(
            width=WIDTH,
            height=HEIGHT,
            left=LEFT,
            right=WIDTH - RIGHT,
            top=TOP,
            bottom=HEIGHT - BOTTOM,
            x_ticks=[Tick(place_x(x), short_number(x)) for x in nice_ticks(x_low, x_high, 6)],
            y_ticks=[Tick(place_y(y), short_number(y)) for y in nice_ticks(low, high, 5)],
            lines=lines,
            x_label=x_label,
            y_label=y_label,
        )
    )


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


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers between two."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short_number(value: float) -> str:
    """1234567 → 1.23M, 0.00012 → 1.2e-04."""
    size = abs(value)
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}" if size >= 1e-3 or value == 0 else f"{value:.1e}"
