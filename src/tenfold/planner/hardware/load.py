"""From a cluster's TOML file to a Cluster, or to one clear line about what is wrong with it."""

import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from tenfold.config.base import explain, parse_document, read_text
from tenfold.core.errors import InputError
from tenfold.planner.hardware.accelerator import PRECISIONS, Accelerator, Precision
from tenfold.planner.hardware.cluster import Cluster, Site, Tier, Wide
from tenfold.planner.hardware.default import STORAGE_PER_NODE, default_domain, default_tiers, largest_divisor
from tenfold.planner.hardware.fabric import fabric
from tenfold.planner.hardware.schema import ClusterSection, DeviceSection, TierSection
from tenfold.planner.hardware.table import Host, host
from tenfold.planner.hardware.units import GIGA, MICRO, MILLI, PERCENT, TERA, scaled

USUAL_NODE = 8
"""Devices of a host where neither the file nor the table says."""


def load_cluster(path: Path) -> Cluster:
    """Read a cluster's TOML file. Raises InputError naming the file, the key, the value and what is allowed."""
    text = read_text(path, f"examples of clusters: {', '.join(example_clusters())}")
    return parse_cluster(text, str(path))


def parse_cluster(text: str, where: str) -> Cluster:
    """As `load_cluster`, from TOML `text` called `where` in messages. Raises InputError."""
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


def _build(section: ClusterSection) -> Cluster:
    usual = _host(section)
    sites = _sites(section)
    sizes = [site.devices for site in sites]
    node = _node(section, sizes, usual)
    storage = section.storage_gb_per_s
    memory = section.host_memory_gb
    return Cluster(
        name=section.name,
        accelerator=usual.accelerator,
        devices=section.devices,
        node_devices=node,
        tiers=_tiers(section, usual.accelerator, sizes, node),
        sites=sites,
        wide=_wide(section),
        host_memory_bytes=usual.memory_bytes if memory is None else scaled(memory, GIGA),
        storage_bandwidth=STORAGE_PER_NODE * (section.devices // node) if storage is None else scaled(storage, GIGA),
        price_per_device_hour=float(section.price_dollars_per_device_hour),
        power_usage_effectiveness=float(section.power_usage_effectiveness),
    )


def _host(section: ClusterSection) -> Host:
    if section.accelerator is not None and section.device is None:
        return host(section.accelerator)
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


def _tiers(section: ClusterSection, device: Accelerator, sites: Sequence[int], node: int) -> tuple[Tier, ...]:
    if not section.tiers:
        network = None if section.fabric is None else fabric(section.fabric)
        return default_tiers(device, sites, _domain(section, device, sites, node), network)
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
