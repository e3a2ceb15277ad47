"""What a description leaves out: hosts, tiers, storage. And the cluster that a name and a number most likely mean."""

import math
from collections.abc import Sequence
from functools import cache

from tenfold.core.errors import InputError
from tenfold.planner.hardware.accelerator import Accelerator
from tenfold.planner.hardware.cluster import Cluster, Site, Tier
from tenfold.planner.hardware.fabric import Fabric
from tenfold.planner.hardware.table import host, rows
from tenfold.planner.hardware.units import MICRO, scaled

STORAGE_PER_NODE = 1e9
"""Bytes/s. The store of Llama 3 sustains 2 TB/s for about 2,000 hosts of 8 (arXiv:2407.21783, section 3.3.1)."""
POWER_USAGE_EFFECTIVENESS = 1.1
"""Fleet averages that Google (1.09) and Meta (1.08) report for 2024."""


def default_cluster(hardware: str, devices: int) -> Cluster:
    """One site of `devices` accelerators in their usual hosts, the scale-up domain and one non-blocking network.

    `hardware` is any name that `accelerator` takes. Hosts and domains are as large as divides `devices`: 256 GB200 come
    in domains of 64. Raises InputError for an unknown name, no devices, or a network nobody published.
    """
    if devices < 1:
        raise InputError(f"{hardware}: {devices} devices; a cluster has at least 1")
    usual = host(hardware)
    node = largest_divisor(devices, usual.devices)
    domain = default_domain(usual.accelerator, (devices,), node)
    return Cluster(
        name=f"{devices} x {hardware}",
        accelerator=usual.accelerator,
        devices=devices,
        node_devices=node,
        tiers=default_tiers(usual.accelerator, (devices,), domain, None),
        sites=(Site("site", devices),),
        wide=None,
        host_memory_bytes=usual.memory_bytes,
        storage_bandwidth=STORAGE_PER_NODE * (devices // node),
        price_per_device_hour=0.0,
        power_usage_effectiveness=POWER_USAGE_EFFECTIVENESS,
    )


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
    return tuple((row["link"], scaled(float(row["latency_us"]), MICRO)) for row in rows("links.csv"))


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`; 1 if there is none."""
    return next((size for size in range(min(limit, number), 0, -1) if number % size == 0), 1)
