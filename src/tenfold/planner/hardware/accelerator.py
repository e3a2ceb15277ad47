"""Accelerators as makers and measurers describe them, and the shipped table, looked up by name."""

import csv
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Literal

from tenfold.core import InputError
from tenfold.planner.hardware.names import name_parts

GIGA, TERA, MICRO, MILLI, PERCENT = 9, 12, -6, -3, -2
"""Powers of ten."""
SMALLER_PART = 0.6
"""Of the table's memory: what a name says below it is a part with less, above it the same part counted otherwise."""
HOUR, DAY = 3600.0, 86400.0
"""Seconds."""


def scaled(value: float, power: int) -> float:
    """`value` × 10^`power`, by moving the decimal point: 80.3 % is 0.803, where 80.3 * 0.01 is not."""
    return float(Decimal(repr(value)).scaleb(power))


Precision = Literal["fp32", "fp16", "bf16", "fp8", "fp4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "fp8", "fp4")


@dataclass(frozen=True)
class Accelerator:
    """Figures of one device. FLOP/s are dense peaks, bytes are decimal (80e9), rates are bytes/s in each direction."""

    name: str
    vendor: str
    announced: bool
    """Whether the figures are only promised: results on it are scenarios."""
    peak_flops: Mapping[Precision, float]
    achievable: Mapping[Precision, float]
    """Share of the peak that the best large matrix product was measured to reach; empty where nobody published it."""
    memory_bytes: float
    memory_bandwidth: float
    link: str
    """Name of the scale-up link (NVLink, xGMI, ICI...)."""
    link_bandwidth: float
    domain_devices: int
    """Devices that the scale-up link joins."""
    nic_bandwidth: float
    """Of the network, for each device; 0 where there is none or nobody published it."""
    power_watts: float
    """0 where nobody published it."""
    source: str
    notes: str


@dataclass(frozen=True)
class Host:
    """An accelerator and the host it usually comes in."""

    accelerator: Accelerator
    devices: int
    """Of one host."""
    memory_bytes: float
    """Of one host; 0 when not published."""


def accelerator(name: str) -> Accelerator:
    """The accelerator that `name` means: a name or alias of the table, or one that its parts tell (`name_parts`).

    A name that says which network the devices hang on ("A100 (multi-node, 4x200G HDR)") gives that network's bandwidth.
    Raises InputError with the closest names.
    """
    return usual_host(name).accelerator


def accelerators() -> tuple[Accelerator, ...]:
    """All accelerators of the table, each once."""
    return tuple({entry.accelerator.name: entry.accelerator for entry in _hosts().values()}.values())


def usual_host(name: str) -> Host:
    """The host that an accelerator usually comes in. Raises InputError with the closest names."""
    known = {**_hosts(), **_systems()}
    found = known.get(_key(name)) or _told_by_parts(name)
    if found is None:
        raise InputError(f"unknown accelerator {name!r}; {_closest(name, known)}")
    return found


def _told_by_parts(name: str) -> Host | None:
    """The host of the family that the name tells: of its memory and form factor where it says them."""
    said = name_parts(name)
    family = _families().get(said.family, ())
    if not family:
        return None
    fitting = [host for host, _ in family if round(host.accelerator.memory_bytes / 1e9) in said.memory_gb]
    formed = [host for host, form in family if said.form and form == said.form]
    both = [host for host in fitting if host in formed]
    chosen = (both or fitting or formed or [family[0][0]])[0]
    if not fitting and len(said.memory_gb) == 1:
        chosen = _with_memory(chosen, said.memory_gb[0])
    if said.power_watts and 0 < said.power_watts < chosen.accelerator.power_watts:  # capped below the part's own
        chosen = replace(chosen, accelerator=replace(chosen.accelerator, power_watts=said.power_watts))
    if said.host_network_gb_per_s is None or not chosen.accelerator.nic_bandwidth:
        return chosen
    each = scaled(said.host_network_gb_per_s / chosen.devices, GIGA)
    return replace(chosen, accelerator=replace(chosen.accelerator, nic_bandwidth=each))


REFERENCE = "H100-SXM"
"""Accelerator whose measured share of the peak another one's is compared with."""
POWER_EXPONENT = 0.5
"""Of power in speed, where power limits the clock: it grows with clock times voltage squared, and part with neither."""


def beside_reference(chip: Accelerator) -> float:
    """Share of its peak that a large 16-bit product reaches, over that of the reference part.

    As measured, where somebody published it (`achievable`); else that of the part of its family with the most power for
    its peak. A part with less power than that one, or capped below its own (`H100-SXM 500 W`), is slower by its root.
    """
    like = _likeness(chip)
    share = _share(chip) or (_share(like) if like else None)
    known = _share(accelerator(REFERENCE))
    slower = min(1.0, _power_for_peak(chip) / _power_for_peak(like)) if like and _power_for_peak(like) else 1.0
    beside = share / known if share and known else 1.0
    return beside * float((slower or 1.0) ** POWER_EXPONENT)


def _likeness(chip: Accelerator) -> Accelerator | None:
    """The table's own entry where its share was measured, else the strongest part of the family; None if unknown."""
    own = _hosts().get(_key(chip.name))
    if own and _share(own.accelerator):
        return own.accelerator
    parts = [host.accelerator for host, _ in _families().get(name_parts(chip.name).family, ())]
    return max(parts, key=_power_for_peak, default=None)


def _share(chip: Accelerator) -> float | None:
    return chip.achievable.get("bf16") or chip.achievable.get("fp16")


def _power_for_peak(chip: Accelerator) -> float:
    """Watts for each FLOP/s of the 16-bit peak; 0 where nobody published it."""
    peak = chip.peak_flops.get("bf16") or chip.peak_flops.get("fp16")
    return chip.power_watts / peak if peak else 0.0


def _with_memory(host: Host, memory_gb: int) -> Host:
    """The host with devices of so much memory, where that is a smaller part than the table has (V100 of 16 GB)."""
    bytes_ = scaled(memory_gb, GIGA)
    if bytes_ > SMALLER_PART * host.accelerator.memory_bytes:
        return host  # counted otherwise: 192 GB of a B200 are 180 that programs see
    return replace(host, accelerator=replace(host.accelerator, memory_bytes=bytes_))


@cache
def _families() -> dict[str, tuple[tuple[Host, str], ...]]:
    """Hosts and their form factors by family; the one that bears the family's plain name stands first."""
    grouped: dict[str, list[tuple[Host, str]]] = {}
    for key, host in _hosts().items():
        said = name_parts(key)
        several = grouped.setdefault(said.family, [])
        plain = key.replace(" ", "") == said.family
        known = [one for one, _ in several]
        if host not in known or plain:
            several[:] = [pair for pair in several if pair[0] != host]
            form = name_parts(host.accelerator.name).form
            several.insert(0 if plain else len(several), (host, form))
    return {family: tuple(several) for family, several in grouped.items() if family}


def _closest(name: str, known: Mapping[str, Host]) -> str:
    near = difflib.get_close_matches(_key(name), known, n=5, cutoff=0.4)
    names = list(dict.fromkeys(known[key].accelerator.name for key in near))[:3]
    if names:
        return f"did you mean {' or '.join(repr(one) for one in names)}?"
    return f"known are {', '.join(one.name for one in accelerators())}"


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


@cache
def _hosts() -> dict[str, Host]:
    """Hosts of the table, by name and alias."""
    entries = {}
    for row in shipped_rows("accelerators.csv"):
        entry = Host(_accelerator(row), int(row["node_devices"]), _figure(row, "host_memory_gb", GIGA))
        for name in (row["name"], *filter(None, row["aliases"].split(";"))):
            entries[_key(name)] = entry
    return entries


@cache
def _systems() -> dict[str, Host]:
    """Systems whose hosts or network differ from what the accelerator usually comes with, by name."""
    entries = {}
    for row in shipped_rows("systems.csv"):
        usual = _hosts()[_key(row["accelerator"])]
        device = replace(
            usual.accelerator,
            domain_devices=int(row["domain_devices"]),
            nic_bandwidth=_figure(row, "nic_gb_per_s", GIGA),
        )
        entries[_key(row["name"])] = replace(usual, accelerator=device, devices=int(row["node_devices"]))
    return entries


def shipped_rows(file: str) -> Iterator[dict[str, str]]:
    """Lines of a shipped table, by column."""
    text = (resources.files("tenfold.planner.hardware") / file).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


def _accelerator(row: Mapping[str, str]) -> Accelerator:
    return Accelerator(
        name=row["name"],
        vendor=row["vendor"],
        announced=row["status"] == "announced",
        peak_flops=_by_precision(row, "{}_tflops", TERA),
        achievable=_by_precision(row, "achieved_{}_percent", PERCENT),
        memory_bytes=_figure(row, "memory_gb", GIGA),
        memory_bandwidth=_figure(row, "memory_tb_per_s", TERA),
        link=row["link"],
        link_bandwidth=_figure(row, "link_gb_per_s", GIGA),
        domain_devices=int(row["domain_devices"]),
        nic_bandwidth=_figure(row, "nic_gb_per_s", GIGA),
        power_watts=_figure(row, "power_w", 0),
        source=row["source"],
        notes=row["notes"],
    )


def _by_precision(row: Mapping[str, str], column: str, power: int) -> dict[Precision, float]:
    """Published figures, in the order of PRECISIONS."""
    return {
        precision: scaled(float(row[column.format(precision)]), power)
        for precision in PRECISIONS
        if row.get(column.format(precision))
    }


def _figure(row: Mapping[str, str], column: str, power: int) -> float:
    """The cell in base units; 0 where the table is blank."""
    return scaled(float(row[column] or 0), power)
