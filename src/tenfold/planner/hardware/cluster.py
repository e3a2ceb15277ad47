"""A cluster: devices, the tiers of its network, sites, storage, price and power; and what a description leaves out."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from tenfold.core import InputError
from tenfold.planner.hardware.accelerator import MICRO, Accelerator, Host, scaled, shipped_rows, usual_host


@dataclass(frozen=True)
class Tier:
    """One level of the network. The first is the scale-up domain, the last spans one site."""

    name: str
    devices: int
    """Devices that one unit of this tier joins; each tier's number is a multiple of the one before."""
    bandwidth: float
    """Bytes/s of one device in each direction, before oversubscription."""
    oversubscription: float
    """Bandwidth below a unit's uplinks over theirs; 1 is non-blocking."""
    latency: float
    """Seconds of one message between two devices that only this tier joins."""

    @property
    def usable_bandwidth(self) -> float:
        """Bytes/s of one device when all of a unit send through this tier at once."""
        return self.bandwidth / self.oversubscription


@dataclass(frozen=True)
class Site:
    """Some of the devices in one place. Sites are joined by `Wide`."""

    name: str
    devices: int


@dataclass(frozen=True)
class Wide:
    """The line between sites: bytes/s of a whole site in each direction, and seconds one way."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Cluster:
    """A machine to plan for. `tiers` go from the scale-up domain outwards; `wide` is None with one site."""

    name: str
    accelerator: Accelerator
    devices: int
    node_devices: int
    """Devices of one host, which fail together."""
    tiers: tuple[Tier, ...]
    sites: tuple[Site, ...]
    wide: Wide | None
    host_memory_bytes: float
    """Of one node; 0 where it is not known."""
    storage_bandwidth: float
    """Bytes/s that all devices together can write to checkpoints."""
    price_per_device_hour: float
    """In dollars; 0 when not given, and then no costs are shown."""
    power_usage_effectiveness: float
    """Power of the site over power of its devices."""
    idle: int = 0
    """Devices that are there beside `devices` and cannot be used: they fill no host, no domain, or no layout."""

    @property
    def nodes(self) -> int:
        """Number of hosts."""
        return self.devices // self.node_devices


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
    for row in shipped_rows("fabrics.csv"):
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


STORAGE_PER_NODE = 1e9
"""Bytes/s. The store of Llama 3 sustains 2 TB/s for about 2,000 hosts of 8 (arXiv:2407.21783, section 3.3.1)."""
POWER_USAGE_EFFECTIVENESS = 1.1
"""Fleet averages that Google (1.09) and Meta (1.08) report for 2024."""


LARGEST_CLUSTER = 100_000_000
"""Devices, beyond any plan: layouts of more are not searched in seconds."""


def default_cluster(hardware: str, devices: int) -> Cluster:
    """One site of `devices` accelerators in their usual hosts, the scale-up domain and one non-blocking network.

    `hardware` is any name that `accelerator` takes. Domains are as large as divides `devices` (256 GB200 come in
    domains of 64); what fills no host or domain stays idle, and `Cluster.idle` says how many that are. Raises
    InputError for an unknown name, no devices, or a network nobody published.
    """
    usual = usual_host(hardware)
    if not 1 <= devices <= LARGEST_CLUSTER:
        raise InputError(f"{hardware}: {devices} devices; a cluster has at least 1 and at most {LARGEST_CLUSTER:,}")
    node = whole_hosts(usual, devices)
    used = devices - devices % node
    domain = whole_domains(usual.accelerator, used, node)
    used -= used % domain
    return Cluster(
        name=f"{devices} x {hardware}",
        accelerator=usual.accelerator,
        devices=used,
        node_devices=node,
        tiers=default_tiers(usual.accelerator, (used,), domain, None),
        sites=(Site("site", used),),
        wide=None,
        host_memory_bytes=usual.memory_bytes,
        storage_bandwidth=STORAGE_PER_NODE * (used // node),
        price_per_device_hour=0.0,
        power_usage_effectiveness=POWER_USAGE_EFFECTIVENESS,
        idle=devices - used,
    )


def fewer_devices(cluster: Cluster, devices: int) -> Cluster:
    """The cluster with only so many of its devices in use, as many at each site; the others are idle."""
    if devices == cluster.devices:
        return cluster
    each = devices // len(cluster.sites)
    inside = [tier for tier in cluster.tiers if tier.devices < each]
    around = cluster.tiers[len(inside)]
    return replace(
        cluster,
        devices=devices,
        node_devices=min(cluster.node_devices, each),
        tiers=(*inside, replace(around, devices=each)),
        sites=tuple(replace(site, devices=each) for site in cluster.sites),
        storage_bandwidth=cluster.storage_bandwidth * devices / cluster.devices,
        idle=cluster.idle + cluster.devices - devices,
    )


def whole_hosts(usual: Host, devices: int) -> int:
    """Devices of one host: as many as usual, or all where there are fewer, then whole scale-up domains."""
    node = min(usual.devices, devices)
    return node - node % min(usual.accelerator.domain_devices, node)


def whole_domains(device: Accelerator, devices: int, node: int) -> int:
    """The scale-up domain, whole hosts or a part of one, that leaves fewest devices idle; of several the largest.

    It has at least half the devices that the link can join, or that there are.
    """
    if device.domain_devices < node:
        return device.domain_devices
    most = min(device.domain_devices, devices) // node
    least = -(-most // 2)
    return node * min(range(most, least - 1, -1), key=lambda hosts: devices % (node * hosts))


def measured_tiers(hardware: str, devices: int) -> tuple[Tier, ...]:
    """Tiers of a run that was measured on exactly so many devices, whether they fill whole domains or not.

    Raises InputError as `default_cluster` does.
    """
    usual = usual_host(hardware)
    node = largest_divisor(devices, usual.devices)
    domain = default_domain(usual.accelerator, (devices,), node)
    whole = min(usual.accelerator.domain_devices, devices)
    domain = domain if 2 * domain >= whole else whole
    return default_tiers(usual.accelerator, (devices,), domain, None)


def default_domain(device: Accelerator, sites: Sequence[int], node: int) -> int:
    """The largest scale-up domain that divides every site, and is whole hosts or a part of one."""
    if device.domain_devices < node:
        return largest_divisor(node, device.domain_devices)
    return node * largest_divisor(math.gcd(*sites) // node, device.domain_devices // node)


def default_tiers(device: Accelerator, sites: Sequence[int], domain: int, network: Fabric | None) -> tuple[Tier, ...]:
    """The scale-up domain and the levels of `network` (None: a single non-blocking one) up to the largest site.

    Units of a level are as large as divides every site. Raises InputError where the network's bandwidth is not
    published or the fabric is too small.
    """
    span = max(sites)
    tiers = [Tier(device.link, domain, device.link_bandwidth, 1.0, link_latency(device.link))]
    if domain < span:
        _check_network(device, span, network)
    for level in network.levels if network else ():
        inside = tiers[-1].devices
        size = (
            span
            if level.devices >= span
            else inside * largest_divisor(math.gcd(*sites) // inside, level.devices // inside)
        )
        if size > inside:
            tiers.append(Tier(level.name, size, device.nic_bandwidth, level.oversubscription, level.latency))
    if tiers[-1].devices < span:
        tiers.append(Tier("network", span, device.nic_bandwidth, 1.0, link_latency("network")))
    return tuple(tiers)


def _check_network(device: Accelerator, span: int, network: Fabric | None) -> None:
    if not device.nic_bandwidth:
        raise InputError(
            f"the network bandwidth of {device.name} is not published, and one {device.link} domain does not hold "
            f"{span} devices; describe the network in [[tiers]]"
        )
    if network and network.levels[-1].devices < span:
        raise InputError(
            f"fabric {network.name!r} joins at most {network.levels[-1].devices} devices, a site has {span}; "
            "add sites or describe the network in [[tiers]]"
        )


def link_latency(link: str) -> float:
    """Seconds of one message over a link of this kind (links.csv); links nobody measured count as NVLink."""
    return next((latency for kind, latency in _latencies() if link.startswith(kind)), dict(_latencies())["NVLink"])


@cache
def _latencies() -> tuple[tuple[str, float], ...]:
    return tuple((row["link"], scaled(float(row["latency_us"]), MICRO)) for row in shipped_rows("links.csv"))


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`; 1 if there is none."""
    return next((size for size in range(min(limit, number), 0, -1) if number % size == 0), 1)
