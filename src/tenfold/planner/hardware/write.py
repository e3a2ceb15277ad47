"""A Cluster written out as commented TOML, which `load_cluster` reads back."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tenfold.config import sections_in
from tenfold.core import InputError, TenfoldError, write_text
from tenfold.planner.hardware.accelerator import GIGA, MICRO, MILLI, PERCENT, TERA, Accelerator, accelerator, scaled
from tenfold.planner.hardware.cluster import Cluster, Tier
from tenfold.planner.hardware.load import ClusterSection

WRAP_AT = 108


def write_cluster(cluster: Cluster, path: Path) -> None:
    """Write `cluster` to `path`, whole or not at all. Raises InputError when that cannot be done."""
    try:
        write_text(path, render_cluster(cluster))
    except TenfoldError as error:
        raise InputError(str(error)) from error


def render_cluster(cluster: Cluster) -> str:
    """The TOML of `cluster` with every key explained. Figures of up to 15 digits come back as they were."""
    lines = ["# A cluster for `tenfold plan`. Keys, accelerators and fabrics: docs/hardware.md", ""]
    lines += _section(ClusterSection, "", _values(cluster))
    return "\n".join(lines).rstrip() + "\n"


def _values(cluster: Cluster) -> dict[str, Any]:
    """By the keys of ClusterSection, in their units. What is None or empty is left out."""
    shipped = _is_shipped(cluster.accelerator)
    several = len(cluster.sites) > 1 or cluster.sites[0].name != "site"
    return {
        "name": cluster.name,
        "accelerator": cluster.accelerator.name if shipped else None,
        "devices": cluster.devices,
        "node_devices": cluster.node_devices,
        "host_memory_gb": scaled(cluster.host_memory_bytes, -GIGA),
        "storage_gb_per_s": scaled(cluster.storage_bandwidth, -GIGA),
        "price_dollars_per_device_hour": cluster.price_per_device_hour,
        "power_usage_effectiveness": cluster.power_usage_effectiveness,
        "device": None if shipped else _device(cluster.accelerator),
        "tiers": [_tier(tier) for tier in cluster.tiers],
        "sites": [{"name": site.name, "devices": site.devices} for site in cluster.sites if several],
        "between_sites": cluster.wide
        and {
            "bandwidth_gb_per_s": scaled(cluster.wide.bandwidth, -GIGA),
            "latency_ms": scaled(cluster.wide.latency, -MILLI),
        },
    }


def _is_shipped(device: Accelerator) -> bool:
    try:
        return accelerator(device.name) == device
    except InputError:
        return False


def _device(device: Accelerator) -> dict[str, Any]:
    return {
        "name": device.name,
        "vendor": device.vendor,
        "announced": device.announced,
        **{f"{precision}_tflops": scaled(peak, -TERA) for precision, peak in device.peak_flops.items()},
        **{f"achieved_{precision}_percent": scaled(share, -PERCENT) for precision, share in device.achievable.items()},
        "memory_gb": scaled(device.memory_bytes, -GIGA),
        "memory_gb_per_s": scaled(device.memory_bandwidth, -GIGA),
        "link": device.link,
        "link_gb_per_s": scaled(device.link_bandwidth, -GIGA),
        "domain_devices": device.domain_devices,
        "nic_gb_per_s": scaled(device.nic_bandwidth, -GIGA),
        "power_w": device.power_watts,
        "source": device.source,
        "notes": device.notes,
    }


def _tier(tier: Tier) -> dict[str, Any]:
    return {
        "name": tier.name,
        "devices": tier.devices,
        "bandwidth_gb_per_s": scaled(tier.bandwidth, -GIGA),
        "oversubscription": tier.oversubscription,
        "latency_us": scaled(tier.latency, -MICRO),
    }


def _section(section: type[BaseModel], header: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Plain keys first, then the tables below them, as TOML wants it."""
    given = {name: field for name, field in section.model_fields.items() if values.get(name) not in (None, [])}
    tables = {name: inner for name, field in given.items() if (inner := next(sections_in(field.annotation), None))}
    if header:
        yield header
    for name, field in given.items():
        if name not in tables:
            yield from toml_comment(field.description or "")
            yield f"{name} = {toml_value(values[name])}"
    for name, inner in tables.items():
        yield from ["", *toml_comment((inner.__doc__ or "").splitlines()[0])]
        if isinstance(values[name], list):
            yield from _list(inner, name, values[name])
        else:
            yield from _section(inner, f"[{name}]", values[name])


def _list(inner: type[BaseModel], name: str, items: list[Mapping[str, Any]]) -> Iterator[str]:
    """The keys explained once, then one table an item."""
    for key, field in inner.model_fields.items():
        yield from toml_comment(f"{key}: {field.description}")
    for number, item in enumerate(items):
        yield from [""] * min(number, 1)
        yield f"[[{name}]]"
        yield from (f"{key} = {toml_value(value)}" for key, value in item.items())


def toml_comment(text: str) -> list[str]:
    """`text` as commented lines of TOML."""
    return textwrap.wrap(" ".join(text.split()), WRAP_AT, initial_indent="# ", subsequent_indent="# ")


def toml_value(value: Any) -> str:
    """TOML and JSON agree on every value the schema has, but for the one control character JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
