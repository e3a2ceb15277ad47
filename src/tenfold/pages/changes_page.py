"""The part of the report that says which changes of the recipe were tried on the ladder and what they are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.pages.figures import MISSING, level_name, percent, times
from tenfold.pages.scaling_charts import Change, scientific, stack_chart

Record = Mapping[str, Any]
LONGEST = 26  # letters of a name beside a bar
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
        pooled=times(found["pooled"]),
        at_target=times(found["at_target"]),
        seeds=found["seeds"],
        noise=percent(found["noise"]),
    )


def _rungs(scales: Sequence[Sequence[Record]]) -> list[RungRow]:
    """All rungs that some change was tried at, in order of compute."""
    found = [{(scale["compute"], scale["rung"]): times(scale) for scale in tried} for tried in scales]
    rungs = sorted({rung for tried in found for rung in tried})
    return [RungRow(rung[1], scientific(rung[0]), tuple(tried.get(rung, MISSING) for tried in found)) for rung in rungs]


def _bars(changes: Sequence[Record], stack: Record | None) -> list[Change]:
    """Each change at the target, then the product and what all together measured."""
    bars = [
        _bar(change["name"], change["assessment"]["at_target"], change["assessment"]["verdict"]) for change in changes
    ]
    totals = {"product": stack["predicted"], "together": stack["measured"]} if stack else {}
    return bars + [_bar(name, worth, "total") for name, worth in totals.items() if worth is not None]


def _bar(name: str, worth: Record, verdict: Any) -> Change:
    short = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
    return Change(short, worth["value"], worth["low"], worth["high"], verdict)
