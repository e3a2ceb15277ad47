"""The cluster that a name and a number of devices most likely mean."""

from functools import cache

from tenfold.errors import InputError
from tenfold.planner.hardware.accelerator import Accelerator
from tenfold.planner.hardware.cluster import Cluster, Site, Tier
from tenfold.planner.hardware.table import host, rows

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
    node = _largest_divisor(devices, min(usual.devices, usual.accelerator.domain_devices))
    return Cluster(
        name=f"{devices} x {hardware}",
        accelerator=usual.accelerator,
        devices=devices,
        node_devices=node,
        tiers=default_tiers(usual.accelerator, devices, node),
        sites=(Site("site", devices),),
        wide=None,
        host_memory_bytes=usual.memory_bytes,
        storage_bandwidth=STORAGE_PER_NODE * (devices // node),
        price_per_device_hour=0.0,
        power_usage_effectiveness=POWER_USAGE_EFFECTIVENESS,
    )


def default_tiers(device: Accelerator, devices: int, node: int) -> tuple[Tier, ...]:
    """The scale-up domain and, if it does not hold all devices, a non-blocking network. Raises InputError."""
    domain = node * _largest_divisor(devices // node, max(1, device.domain_devices // node))
    first = Tier(device.link, domain, device.link_bandwidth, 1.0, link_latency(device.link))
    if domain == devices:
        return (first,)
    if not device.nic_bandwidth:
        raise InputError(
            f"{device.name}: no network bandwidth is published and {devices} devices do not share one {device.link} "
            "domain; describe the cluster in a file"
        )
    return (first, Tier("network", devices, device.nic_bandwidth, 1.0, link_latency("network")))


def link_latency(link: str) -> float:
    """Seconds of one message over a link of this kind (links.csv); links nobody measured count as NVLink."""
    return next((latency for kind, latency in _latencies() if link.startswith(kind)), dict(_latencies())["NVLink"])


@cache
def _latencies() -> tuple[tuple[str, float], ...]:
    return tuple((row["link"], float(row["latency_us"]) / 1e6) for row in rows("links.csv"))


def _largest_divisor(number: int, limit: int) -> int:
    return next(size for size in range(min(limit, number), 0, -1) if number % size == 0)
