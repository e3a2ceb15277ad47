"""How every page looks: its colours in light and dark, and the environment that its templates are filled in.

Pages and charts name a colour as a CSS variable, such as `BLUE`, and so follow the reader into dark mode.
"""

import functools
import time

from jinja2 import Environment, PackageLoader, StrictUndefined

from tenfold.core import duration, short

LIGHT = {
    "ink": "#16202b",
    "soft": "#5b6875",
    "line": "#dde3e9",
    "page": "#f6f8fa",
    "card": "#fff",
    "c0": "#2563a8",
    "c1": "#c2571a",
    "c2": "#2f8a4e",
    "c3": "#8a4fb0",
    "c4": "#b0892f",
}
DARK = {
    "ink": "#e6ebf0",
    "soft": "#97a4b1",
    "line": "#2c3640",
    "page": "#11161b",
    "card": "#1a2128",
    "c0": "#6ea8e6",
    "c1": "#f09a63",
    "c2": "#6cc78c",
    "c3": "#c08fe0",
    "c4": "#dcbb6a",
}
INK, SOFT, CARD = "var(--ink)", "var(--soft)", "var(--card)"
BLUE, ORANGE, GREEN, PURPLE, GOLD = COLOURS = tuple(f"var(--c{number})" for number in range(5))
"""Of series, in the order in which a chart takes them."""


def ramp(number: int, count: int) -> str:
    """Colour `number` of `count` series that have an order: from blue to orange."""
    share = round(100 * number / max(count - 1, 1))
    return f"color-mix(in oklab, {ORANGE} {share}%, {BLUE})"


def moment(at: float) -> str:
    """Seconds since 1970 as 2026-09-21 14:13:20 UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


@functools.cache
def template_environment() -> Environment:
    """The templates of this room: everything escaped, an undefined name is an error. Filters: short, duration, moment.

    One environment for all charts and pages, since compiling a template takes far longer than filling it.
    """
    environment = Environment(
        loader=PackageLoader("tenfold.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "duration": duration, "moment": moment}
    environment.globals |= {"light": LIGHT, "dark": DARK}
    return environment


def style_sheet() -> str:
    """The style of every page as CSS, for one that is served."""
    return template_environment().get_template("style.css.jinja").render()
