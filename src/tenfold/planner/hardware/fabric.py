"""Networks of known clusters, by name."""

import difflib
from dataclasses import dataclass
from functools import cache

from tenfold.core.errors import InputError
from tenfold.planner.hardware.table import rows
from tenfold.planner.hardware.units import MICRO, scaled


@dataclass(frozen=True)
class Level:
    """One level of a fabric above the scale-up domain. Its bandwidth is that of the devices' own network cards."""

    name: str
    devices: int
    """The most that one unit of this level joins."""
    oversubscription: float
    latency: float
    """Seconds: 9.6 µs of a network hop (links.csv) and, for each further layer of switches, 2.0 µs of RoCE or 0.9 µs of
    InfiniBand, the differences between one leaf and two in arXiv:2505.09343, table 5."""
    source: str
    notes: str


@dataclass(frozen=True)
class Fabric:
    """A published network, levels from the inside out."""

    name: str
    levels: tuple[Level, ...]


def fabrics() -> tuple[Fabric, ...]:
    """All fabrics of the shipped table."""
    return tuple(_fabrics().values())


def fabric(name: str) -> Fabric:
    """The fabric of this name. Raises InputError with the names there are."""
    known = _fabrics()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise InputError(f"unknown fabric {name!r}; {hint}")
    return known[name]


@cache
def _fabrics() -> dict[str, Fabric]:
    levels: dict[str, list[Level]] = {}
    for row in rows("fabrics.csv"):
        level = Level(
            name=row["level"],
            devices=int(row["devices"]),
            oversubscription=float(row["oversubscription"]),
            latency=scaled(float(row["latency_us"]), MICRO),
            source=row["source"],
            notes=row["notes"],
        )
        levels.setdefault(row["fabric"], []).append(level)
    return {name: Fabric(name, tuple(several)) for name, several in levels.items()}
