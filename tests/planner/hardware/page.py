"""The tables of docs/hardware.md, written from the schema and the shipped tables.

`python -m tests.planner.hardware.page` writes them again.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from tenfold.config.describe import keys_of
from tenfold.planner.hardware.accelerator import Accelerator, accelerators, shipped_rows
from tenfold.planner.hardware.cluster import fabrics
from tenfold.planner.hardware.load import (
    BetweenSitesSection,
    ClusterSection,
    DeviceSection,
    SiteSection,
    TierSection,
    example_clusters,
    example_text,
)
from tests.planner.tables import row, short, write

PAGE = Path(__file__).parents[3] / "docs" / "hardware.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "": ClusterSection,
    "[device]": DeviceSection,
    "[[tiers]]": TierSection,
    "[[sites]]": SiteSection,
    "[between_sites]": BetweenSitesSection,
}


def tables() -> dict[str, str]:
    """By the name of the marker they stand below."""
    return {
        "keys": "\n".join(keys()),
        "accelerators": "\n".join(devices()),
        "systems": "\n".join(systems()),
        "fabrics": "\n".join(networks()),
        "links": "\n".join(links()),
        "examples": "\n".join(examples()),
    }


def keys() -> Iterator[str]:
    for header, section in SECTIONS.items():
        if header:
            yield f"\n**`{header}`** {(section.__doc__ or '').splitlines()[0].split(': ', 1)[1]}\n"
        yield from row("key", "allowed", "default", "meaning", head=True)
        for key in keys_of(section, ""):
            default = "required" if key.required else "" if key.default in (None, "") else f"`{key.default}`"
            allowed = short(key.allowed)
            yield from row(f"`{key.name}`", allowed, default, " ".join(key.description.split()))


def devices() -> Iterator[str]:
    yield from row(
        "name",
        "fp32 / fp16 / bf16 / fp8 / fp4 TFLOP/s",
        "achieved %",
        "memory GB, TB/s",
        "link GB/s, domain",
        "network GB/s",
        "W",
        "source",
        head=True,
    )
    for device in accelerators():
        yield from row(
            f"{device.name}{' (announced)' if device.announced else ''}",
            " / ".join(number(device.peak_flops.get(kind, 0), 1e12) for kind in ("fp32", "fp16", "bf16", "fp8", "fp4")),
            ", ".join(f"{kind} {share * 100:g}" for kind, share in device.achievable.items()),
            f"{number(device.memory_bytes, 1e9)}, {number(device.memory_bandwidth, 1e12)}",
            f"{device.link}: {number(device.link_bandwidth, 1e9)}, {device.domain_devices}",
            number(device.nic_bandwidth, 1e9),
            number(device.power_watts, 1),
            source(device),
        )


def source(device: Accelerator) -> str:
    return f"{device.source}. {device.notes}" if device.notes else device.source


def number(value: float, unit: float) -> str:
    """In this unit; a dash where it is not published."""
    return f"{value / unit:g}" if value else "–"


def systems() -> Iterator[str]:
    yield from row("name", "accelerator", "devices of a host", "network GB/s of a device", "source", head=True)
    for one in shipped_rows("systems.csv"):
        yield from row(
            one["name"],
            one["accelerator"],
            one["node_devices"],
            one["nic_gb_per_s"],
            f"{one['source']}: {one['notes']}",
        )


def networks() -> Iterator[str]:
    yield from row("fabric", "levels: devices, oversubscription, latency", "source", head=True)
    for one in fabrics():
        levels = [
            f"{level.name}: {level.devices:,}, {level.oversubscription:g}, {level.latency * 1e6:g} µs"
            for level in one.levels
        ]
        notes = dict.fromkeys(level.notes for level in one.levels)
        yield from row(f"`{one.name}`", "; ".join(levels), f"{one.levels[0].source}: {'; '.join(notes)}")


def links() -> Iterator[str]:
    yield from row("link", "latency µs", "source", head=True)
    for one in shipped_rows("links.csv"):
        yield from row(one["link"], one["latency_us"], one["source"])


def examples() -> Iterator[str]:
    yield from row("example", "what it is", head=True)
    for name in example_clusters():
        comment = [line[2:] for line in example_text(name).splitlines() if line.startswith("# ")]
        yield from row(f"`{name}`", " ".join(comment))


if __name__ == "__main__":
    write(PAGE, tables())
