"""What fails, how often: causes, profiles of real fleets, and measured times, from the tables beside this file."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, get_args

from tenfold.core.errors import InputError

Component = Literal["device", "host", "rack", "switch", "site"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
DAY = 86400.0


@dataclass(frozen=True)
class Cause:
    """One way in which one kind of component fails, each component for itself, at a steady rate."""

    name: str
    component: Component
    per_day: float
    """Failures of one component a day."""
    group_nodes: int = 1
    """Hosts that go at once: 1 for a device or a host, more for a rack or switch; 0 is the whole site."""
    replaced: bool = True
    """Whether the hosts leave for repair, so that a spare has to stand in; else they are back after the restart."""
    silent: bool = False
    """Whether it corrupts the training unseen and is found only later."""


@dataclass(frozen=True)
class Profile:
    """The causes that one published fleet reported, as rates."""

    name: str
    causes: tuple[Cause, ...]
    sources: tuple[str, ...]
    evidence: str
    """primary, secondary or derived: the weakest among the rows."""


@dataclass(frozen=True)
class Timing:
    """A measured time or share, with where it comes from."""

    name: str
    value: float
    unit: str
    evidence: str
    source: str
    notes: str


def profile_names() -> tuple[str, ...]:
    """Names of the shipped profiles."""
    return tuple(_profiles())


def load_profile(name: str) -> Profile:
    """A shipped profile. Raises InputError naming those there are."""
    profiles = _profiles()
    if name not in profiles:
        raise InputError(f"reliability profile {name!r}: there is none; use one of {', '.join(profiles)}")
    return profiles[name]


def timings() -> dict[str, Timing]:
    """The shipped times by name."""
    return {row["name"]: Timing(**{**row, "value": float(row["value"])}) for row in _rows("timings.csv")}  # type: ignore[arg-type]


@cache
def seconds(name: str) -> float:
    """Value of a shipped timing."""
    return timings()[name].value


@cache
def _profiles() -> dict[str, Profile]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in _rows("reliability.csv"):
        grouped.setdefault(row["profile"], []).append(row)
    return {name: _profile(name, rows) for name, rows in grouped.items()}


def _profile(name: str, rows: list[dict[str, str]]) -> Profile:
    evidence = {row["evidence"] for row in rows}
    weakest = next(word for word in ("secondary", "derived", "primary") if word in evidence)
    sources = tuple(dict.fromkeys(row["source"] for row in rows))
    return Profile(name, tuple(_cause(row) for row in rows), sources, weakest)


def _cause(row: dict[str, str]) -> Cause:
    component = next(known for known in COMPONENTS if known == row["component"])
    rate = float(row["count"]) / (float(row["components"]) * float(row["days"]))
    return Cause(
        row["cause"], component, rate, int(row["group_nodes"]), row["replaced"] == "1", silent=row["silent"] == "1"
    )


def _rows(file_name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("tenfold.planner.fleet") / file_name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())
