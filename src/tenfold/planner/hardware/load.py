"""A cluster's TOML file: its typed schema, and the Cluster it describes. Every unit is in the name of its key."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from tenfold.config import Section, explain, parse_document, read_text
from tenfold.core import InputError
from tenfold.planner.hardware.accelerator import (
    GIGA,
    MICRO,
    MILLI,
    PERCENT,
    PRECISIONS,
    TERA,
    Accelerator,
    Host,
    Precision,
    scaled,
    usual_host,
)
from tenfold.planner.hardware.cluster import (
    LARGEST_CLUSTER,
    STORAGE_PER_NODE,
    Cluster,
    Site,
    Tier,
    Wide,
    default_cluster,
    default_domain,
    default_tiers,
    fabric,
    largest_divisor,
    whole_domains,
    whole_hosts,
)

_SMALLEST, _LARGEST = 1e-9, 1e12
"""In the units of the keys: beyond any machine, and far enough from where floating point ends."""


def _not_tiny(value: float) -> float:
    if value < _SMALLEST:
        raise ValueError(f"input should be at least {_SMALLEST:g}")
    return value


_Count = Annotated[int, Field(gt=0, le=LARGEST_CLUSTER)]
_Positive = Annotated[float, Field(gt=0, le=_LARGEST), AfterValidator(_not_tiny)]
_NotNegative = Annotated[float, Field(ge=0, le=_LARGEST)]
_Share = Annotated[float, Field(gt=0, le=100), AfterValidator(_not_tiny)]
_Ratio = Annotated[float, Field(ge=1, le=1e6)]
_Name = Annotated[str, Field(min_length=1)]


class DeviceSection(Section):
    """[device]: an accelerator with figures of your own, in place of `accelerator`."""

    name: _Name
    """What it is called."""
    vendor: str = ""
    """Who makes it."""
    announced: bool = False
    """Whether the figures are only promised: results are then marked as scenarios."""
    fp32_tflops: _Positive | None = None
    """Dense peak in fp32. Give the peak of at least one precision."""
    fp16_tflops: _Positive | None = None
    """Dense peak in fp16, sums in fp32."""
    bf16_tflops: _Positive | None = None
    """Dense peak in bf16."""
    fp8_tflops: _Positive | None = None
    """Dense peak in fp8."""
    fp4_tflops: _Positive | None = None
    """Dense peak in fp4."""
    achieved_fp32_percent: _Share | None = None
    """Share of the peak that the best large matrix product reaches, where it was measured."""
    achieved_fp16_percent: _Share | None = None
    """The same in fp16."""
    achieved_bf16_percent: _Share | None = None
    """The same in bf16."""
    achieved_fp8_percent: _Share | None = None
    """The same in fp8."""
    achieved_fp4_percent: _Share | None = None
    """The same in fp4."""
    memory_gb: _Positive
    """Memory of one device, 10^9 bytes."""
    memory_gb_per_s: _Positive
    """Bandwidth of that memory."""
    link: _Name
    """Name of the scale-up link; names that start with NVLink, PCIe or ICI get that link's latency."""
    link_gb_per_s: _Positive
    """Of one device over the scale-up link, in each direction."""
    domain_devices: _Count
    """Devices that the scale-up link can join."""
    nic_gb_per_s: _NotNegative = 0.0
    """Network bandwidth of one device in each direction; 0 where there is none."""
    power_w: _NotNegative = 0.0
    """Power of one device; 0 where it is not known."""
    source: str = ""
    """Where the figures are from."""
    notes: str = ""
    """What else a reader should know."""


class TierSection(Section):
    """[[tiers]]: the network level by level, from the scale-up domain outwards; the last spans the largest site."""

    name: _Name
    """What the level is called."""
    devices: _Count
    """Devices that one unit of this level joins: a multiple of the level before."""
    bandwidth_gb_per_s: _Positive
    """Of one device in each direction, before oversubscription."""
    oversubscription: _Ratio = 1.0
    """Bandwidth below the uplinks of a unit over theirs; 1 is non-blocking."""
    latency_us: _NotNegative
    """Of one message between two devices that only this level joins."""


class SiteSection(Section):
    """[[sites]]: places that hold some of the devices each. Without any, all are in one place."""

    name: _Name
    """What the place is called."""
    devices: _Count
    """Devices there; all sites together hold `devices`."""


class BetweenSitesSection(Section):
    """[between_sites]: what joins the sites."""

    bandwidth_gb_per_s: _Positive
    """Of a whole site in each direction."""
    latency_ms: _NotNegative
    """One way. Light in fibre takes 4.9 µs/km."""


class ClusterSection(Section):
    """A cluster: devices, what joins them, sites, storage, price and power."""

    name: _Name
    """What the cluster is called in reports."""
    accelerator: str | None = None
    """Device type, by a name or alias of docs/hardware.md. Give this or [device]."""
    devices: _Count
    """How many there are, all sites together."""
    node_devices: _Count | None = None
    """Devices of one host, which fail together. Default: as many as the accelerator's usual host has
    (with [device] 8, or the domain where that is smaller); devices of a site that fill no host stay idle."""
    domain_devices: _Count | None = None
    """Devices that the scale-up link joins. Default: as many as leave fewest devices idle, at least half of those it
    can. Not with [[tiers]], whose first level says it."""
    fabric: str | None = None
    """Network above the scale-up domain, by a name of docs/hardware.md. Default: one non-blocking network. Not with
    [[tiers]]."""
    host_memory_gb: _NotNegative | None = None
    """Memory of one host, 10^9 bytes; 0 where it is not known. Default: that of the accelerator's usual host."""
    storage_gb_per_s: _Positive | None = None
    """What all devices together can write to checkpoints. Default: 1 GB/s a host."""
    price_dollars_per_device_hour: _NotNegative = 0.0
    """Price of one device for an hour; 0 shows no costs."""
    power_usage_effectiveness: _Ratio = 1.1
    """Power of the site over power of its devices."""
    device: DeviceSection | None = None
    tiers: list[TierSection] = Field(default_factory=list)
    sites: list[SiteSection] = Field(default_factory=list)
    between_sites: BetweenSitesSection | None = None


USUAL_NODE = 8
"""Devices of a host where neither the file nor the table says."""


def load_cluster(path: Path) -> Cluster:
    """Read a cluster's TOML file. Raises InputError naming the file, the key, the value and what is allowed."""
    text = read_text(path, f"examples of clusters: {', '.join(example_clusters())}")
    return parse_cluster(text, str(path))


def parse_cluster(text: str, where: str) -> Cluster:
    """The cluster in TOML `text`, called `where` in messages. Raises InputError as `load_cluster` does."""
    try:
        section = ClusterSection.model_validate(parse_document(text, where))
    except ValidationError as error:
        raise InputError(explain(error, where, root=ClusterSection)) from None
    try:
        return _build(section)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def example_clusters() -> list[str]:
    """Names of the clusters the package ships."""
    folder = resources.files("tenfold.planner.hardware") / "examples"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def example_text(name: str) -> str:
    """The commented TOML of a shipped cluster. Raises InputError with the names there are."""
    if name not in example_clusters():
        raise InputError(f"no example cluster {name!r}; there are {', '.join(example_clusters())}")
    return (resources.files("tenfold.planner.hardware") / "examples" / f"{name}.toml").read_text(encoding="utf-8")


def example_cluster(name: str) -> Cluster:
    """A shipped cluster. Raises InputError with the names there are."""
    return parse_cluster(example_text(name), f"{name}.toml")


def find_cluster(text: str) -> Cluster:
    """A TOML file, the name of an example, or ACCELERATOR:DEVICES. Raises InputError for text that is none of them."""
    if text.endswith(".toml") or Path(text).is_file():
        return load_cluster(Path(text))
    if text in example_clusters():
        return example_cluster(text)
    name, colon, devices = text.rpartition(":")
    if colon and name.strip():
        return default_cluster(name.strip(), _device_count(text, devices))
    raise InputError(
        f"--cluster {text}: no such file and no example; give a TOML file, one of {', '.join(example_clusters())}, or "
        "ACCELERATOR:DEVICES such as H100-SXM:1024"
    )


def _device_count(text: str, devices: str) -> int:
    """The number after the colon, 1,024 or 1_024 too. Raises InputError."""
    digits = re.sub(r"[,_](?=[0-9]{3}(?![0-9]))", "", devices.strip())
    if not re.fullmatch("[0-9]{1,12}", digits):
        raise InputError(f"--cluster {text}: {devices!r} is no number of devices; 1 to {LARGEST_CLUSTER:,}")
    return int(digits)


def _build(section: ClusterSection) -> Cluster:
    usual = _host(section)
    listed = _sites(section)
    sites, node, domain = _in_use(section, usual, listed)
    sizes = [site.devices for site in sites]
    devices = sum(sizes)
    storage = section.storage_gb_per_s
    memory = section.host_memory_gb
    return Cluster(
        name=section.name,
        accelerator=usual.accelerator,
        devices=devices,
        node_devices=node,
        tiers=_tiers(section, usual.accelerator, sizes, node, domain),
        sites=sites,
        wide=_wide(section),
        host_memory_bytes=usual.memory_bytes if memory is None else scaled(memory, GIGA),
        storage_bandwidth=STORAGE_PER_NODE * (devices // node) if storage is None else scaled(storage, GIGA),
        price_per_device_hour=float(section.price_dollars_per_device_hour),
        power_usage_effectiveness=float(section.power_usage_effectiveness),
        idle=section.devices - devices,
    )


def _in_use(section: ClusterSection, usual: Host, sites: tuple[Site, ...]) -> tuple[tuple[Site, ...], int, int]:
    """Sites without the devices that fill no host or domain, devices of a host, and those of a domain.

    Where the file says hosts, domains or tiers, every site must be made of whole ones.
    """
    sizes = [site.devices for site in sites]
    node = section.node_devices
    if section.tiers:
        return sites, _node(section, sizes, usual), 0
    if node is None and section.domain_devices is None:
        node = whole_hosts(usual, min(sizes))
        sites = _whole(sites, node)
        domain = _fewest_idle(usual.accelerator, [site.devices for site in sites], node)
        return _whole(sites, domain), node, domain
    node = _node(section, sizes, usual)
    return sites, node, _domain(section, usual.accelerator, sizes, node)


def _whole(sites: tuple[Site, ...], unit: int) -> tuple[Site, ...]:
    return tuple(replace(site, devices=site.devices - site.devices % unit) for site in sites)


def _fewest_idle(device: Accelerator, sizes: Sequence[int], node: int) -> int:
    """The domain that suits all sites: one that divides each, if it has half the devices that one may have."""
    common = whole_domains(device, math.gcd(*sizes), node)
    return common if 2 * common > min(device.domain_devices, *sizes) else whole_domains(device, min(sizes), node)


def _host(section: ClusterSection) -> Host:
    if section.accelerator is not None and section.device is None:
        return usual_host(section.accelerator)
    if section.device is None or section.accelerator is not None:
        raise InputError("say which device it is by one of `accelerator` and [device]")
    device = _accelerator(section.device)
    return Host(device, min(USUAL_NODE, device.domain_devices), 0.0)


def _accelerator(section: DeviceSection) -> Accelerator:
    peaks = _by_precision(section, "{}_tflops", TERA)
    achieved = _by_precision(section, "achieved_{}_percent", PERCENT)
    if not peaks:
        raise InputError("device: give the peak of at least one precision, such as bf16_tflops")
    for precision in achieved.keys() - peaks.keys():
        raise InputError(f"device.achieved_{precision}_percent: a share of which peak? give {precision}_tflops too")
    return Accelerator(
        name=section.name,
        vendor=section.vendor,
        announced=section.announced,
        peak_flops=peaks,
        achievable=achieved,
        memory_bytes=scaled(section.memory_gb, GIGA),
        memory_bandwidth=scaled(section.memory_gb_per_s, GIGA),
        link=section.link,
        link_bandwidth=scaled(section.link_gb_per_s, GIGA),
        domain_devices=section.domain_devices,
        nic_bandwidth=scaled(section.nic_gb_per_s, GIGA),
        power_watts=float(section.power_w),
        source=section.source,
        notes=section.notes,
    )


def _by_precision(section: DeviceSection, key: str, power: int) -> dict[Precision, float]:
    values = section.model_dump()
    given = {precision: values[key.format(precision)] for precision in PRECISIONS}
    return {precision: scaled(value, power) for precision, value in given.items() if value is not None}


def _sites(section: ClusterSection) -> tuple[Site, ...]:
    if not section.sites:
        return (Site("site", section.devices),)
    names = [site.name for site in section.sites]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"sites: two are named {name!r}; a site needs a name of its own")
    total = sum(site.devices for site in section.sites)
    if total != section.devices:
        raise InputError(f"sites hold {total} devices together, but devices = {section.devices}")
    return tuple(Site(site.name, site.devices) for site in section.sites)


def _wide(section: ClusterSection) -> Wide | None:
    between = section.between_sites
    if between is None:
        if len(section.sites) > 1:
            raise InputError("several sites: say what joins them in [between_sites]")
        return None
    if len(section.sites) < 2:
        raise InputError("[between_sites] joins sites, but there is one: list [[sites]] or remove it")
    return Wide(scaled(between.bandwidth_gb_per_s, GIGA), scaled(between.latency_ms, MILLI))


def _node(section: ClusterSection, sites: Sequence[int], usual: Host) -> int:
    if section.node_devices is None:
        return largest_divisor(math.gcd(*sites), usual.devices)
    for size in sites:
        if size % section.node_devices:
            raise InputError(f"node_devices = {section.node_devices}: {size} devices are not a whole number of hosts")
    return section.node_devices


def _tiers(
    section: ClusterSection, device: Accelerator, sites: Sequence[int], node: int, domain: int
) -> tuple[Tier, ...]:
    if not section.tiers:
        network = None if section.fabric is None else fabric(section.fabric)
        return default_tiers(device, sites, domain, network)
    if section.fabric is not None or section.domain_devices is not None:
        key = "domain_devices" if section.fabric is None else "fabric"
        raise InputError(f"{key} and [[tiers]] both describe the network; give one of them")
    tiers = tuple(_tier(tier) for tier in section.tiers)
    _check_domain("tiers[0].devices", tiers[0].devices, sites, node)
    for number in range(1, len(tiers)):
        inside, outside = tiers[number - 1].devices, tiers[number].devices
        if outside % inside or outside == inside:
            raise InputError(f"tiers[{number}].devices = {outside}: not a multiple of the level before, {inside}")
    if tiers[-1].devices != max(sites):
        raise InputError(
            f"tiers[{len(tiers) - 1}].devices = {tiers[-1].devices}: the last level joins the largest site, "
            f"which has {max(sites)}"
        )
    return tiers


def _tier(tier: TierSection) -> Tier:
    return Tier(
        name=tier.name,
        devices=tier.devices,
        bandwidth=scaled(tier.bandwidth_gb_per_s, GIGA),
        oversubscription=float(tier.oversubscription),
        latency=scaled(tier.latency_us, MICRO),
    )


def _domain(section: ClusterSection, device: Accelerator, sites: Sequence[int], node: int) -> int:
    domain = section.domain_devices
    if domain is None:
        return default_domain(device, sites, node)
    _check_domain("domain_devices", domain, sites, node)
    if domain > device.domain_devices:
        raise InputError(f"domain_devices = {domain}: {device.link} of {device.name} joins {device.domain_devices}")
    return domain


def _check_domain(key: str, domain: int, sites: Sequence[int], node: int) -> None:
    if domain % node and node % domain:
        raise InputError(f"{key} = {domain}: neither whole hosts of {node} devices nor an even part of one")
    for size in sites:
        if size % domain:
            raise InputError(f"{key} = {domain}: {size} devices are not a whole number of such domains")
