"""The part of the report that says which changes of the recipe were tried on the ladder and what they are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from tenfold.core import MISSING, level_name, multiple, multiple_in_interval, percent, scientific
from tenfold.pages.charts import LETTER, NOTHING, RIGHT, WIDTH, Chart, Paint, axis_over, rows
from tenfold.pages.style import BLUE, GREEN, INK, ORANGE, SOFT

Record = Mapping[str, Any]
LONGEST = 20  # letters of a name beside a bar
PITCH, FIGURES = 30, 140  # of the chart: height of a row, room for its figures
FURTHEST, REACH = 1000.0, 3.0  # most that a bar shows; how far intervals may reach beyond the bars
TRENDS = {"grows": "grows with scale", "holds": "holds over scale", "fades": "fades with scale", "unclear": "unclear"}


@dataclass(frozen=True)
class ChangeRow:
    """One change: what it sets, what it is worth over the ladder and at the target, and the verdict."""

    name: str
    description: str
    settings: tuple[str, ...]
    on_top_of: str
    verdict: str
    why: str
    trend: str
    pooled: str
    at_target: str
    seeds: int
    noise: str


@dataclass(frozen=True)
class RungRow:
    """What each change, in their order, is worth at one rung; MISSING where it was not tried."""

    name: str
    compute: str
    worths: tuple[str, ...]


@dataclass(frozen=True)
class ChangeBar:
    """One change's multiplier of effective compute, with its interval."""

    name: str
    multiplier: float
    low: float
    high: float
    verdict: Literal["adopt", "reject", "undecided", "total"] = "undecided"


@dataclass(frozen=True)
class ChangesPage:
    """What the template shows."""

    rows: tuple[ChangeRow, ...]
    rungs: tuple[RungRow, ...]
    level: str
    chart: Markup
    stack: str
    held: bool | None


def changes_page(report: Record) -> ChangesPage | None:
    """From the keys changes and stack of report.json; None without a change."""
    changes: Sequence[Record] = report.get("changes") or []
    if not changes:
        return None
    stack: Record | None = report.get("stack")
    return ChangesPage(
        rows=tuple(_row(change) for change in changes),
        rungs=tuple(_rungs([change["assessment"]["scales"] for change in changes])),
        level=level_name(changes[0]["assessment"]["at_target"]["level"]),
        chart=stack_chart(_bars(changes, stack), "multiplier of effective compute at the target"),
        stack=stack["text"] if stack else "",
        held=stack["held"] if stack else None,
    )


def _row(change: Record) -> ChangeRow:
    found = change["assessment"]
    return ChangeRow(
        name=change["name"],
        description=change["description"],
        settings=tuple(f"{key} = {value}" for key, value in change["set"].items()),
        on_top_of=", ".join(change["stack"]),
        verdict=found["verdict"],
        why=found["why"],
        trend=TRENDS[found["trend"]],
        pooled=multiple_in_interval(found["pooled"]),
        at_target=multiple_in_interval(found["at_target"]),
        seeds=found["seeds"],
        noise=percent(found["noise"]),
    )


def _rungs(scales: Sequence[Sequence[Record]]) -> list[RungRow]:
    """All rungs that some change was tried at, in order of compute."""
    found = [{(scale["compute"], scale["rung"]): multiple_in_interval(scale) for scale in tried} for tried in scales]
    rungs = sorted({rung for tried in found for rung in tried})
    return [RungRow(rung[1], scientific(rung[0]), tuple(tried.get(rung, MISSING) for tried in found)) for rung in rungs]


def _bars(changes: Sequence[Record], stack: Record | None) -> list[ChangeBar]:
    """Each change at the target, then the product and what all together measured."""
    bars = [
        _bar(change["name"], change["assessment"]["at_target"], change["assessment"]["verdict"]) for change in changes
    ]
    totals = {"product": stack["predicted"], "together": stack["measured"]} if stack else {}
    return bars + [_bar(name, worth, "total") for name, worth in totals.items() if worth is not None]


def _bar(name: str, worth: Record, verdict: Any) -> ChangeBar:
    short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return ChangeBar(short, worth["value"], worth["low"], worth["high"], verdict)


# The chart


def stack_chart(bars: Sequence[ChangeBar], x_label: str = "multiplier of effective compute") -> Markup:
    """One bar per change from ×1, with its interval; totals in another colour. An open interval ends at the frame."""
    if not bars:
        return NOTHING
    left = 24 + max(len(bar.name) for bar in bars) * LETTER
    x = axis_over(_edges_shown(bars), left, WIDTH - RIGHT - FIGURES, log=True)
    chart = rows(x, len(bars), PITCH)
    for number, bar in enumerate(bars):
        _draw_change(chart, bar, chart.y.place(number + 0.5))
    chart.cut(1.0, chart.y.start, chart.y.end, INK, 1.2)
    return chart.render(x_label, x_grid=True, title=f"Worth of each change: {_told(bars)}.")


def _told(bars: Sequence[ChangeBar]) -> str:
    return "; ".join(f"{bar.name} {_worth(bar)}" for bar in bars)


def _worth(bar: ChangeBar) -> str:
    return f"{multiple(bar.multiplier)}× [{multiple(bar.low)}, {multiple(bar.high)}]"


def _edges_shown(bars: Sequence[ChangeBar]) -> list[float]:
    """Ends of bars and intervals, but none further than REACH times beyond the bars: one open end is not the scale."""
    ends = [1.0, *(min(max(bar.multiplier, 1 / FURTHEST), FURTHEST) for bar in bars)]
    least, most = min(ends) / REACH, max(ends) * REACH
    return ends + [min(max(edge, least), most) for bar in bars for edge in (bar.low, bar.high)]


def _draw_change(chart: Chart, bar: ChangeBar, middle: float) -> None:
    total = bar.verdict == "total"
    colour = {"adopt": GREEN, "reject": ORANGE, "undecided": SOFT, "total": BLUE}[bar.verdict]
    chart.box(1.0, bar.multiplier, middle - 9, 18, Paint(colour, 0.8 if total else 0.55))
    chart.whisker(bar.low, bar.high, middle)
    chart.write(chart.x.start - 10, middle + 4, bar.name, INK, "end", bold=total)
    chart.write(WIDTH - RIGHT, middle + 4, _worth(bar), INK if total else SOFT, "end", bold=total)
