"""Small questions that tests ask."""

from dataclasses import replace

from tenfold.planner.cost.layout import Shape
from tenfold.planner.hardware.cluster import Cluster, Site, Wide, default_cluster, fewer_devices
from tenfold.planner.search.question import LayoutQuestion

DENSE = Shape(24.0, 2048.0, 16.0, 8.0, 128.0, 8192.0, 3.0, 32000.0, 4096.0)
ROUTED = replace(DENSE, experts=8.0, experts_per_token=2.0, expert_width=4096.0, mlp_width=8192.0)
LLAMA = Shape(126.0, 16384.0, 128.0, 8.0, 128.0, 53248.0, 3.0, 128256.0, 8192.0)


def dense(devices: int = 16, sequences: int = 64) -> LayoutQuestion:
    hosts = default_cluster("H100-SXM", -(-devices // 8) * 8)
    return LayoutQuestion(DENSE, fewer_devices(hosts, devices), sequences)


def routed(devices: int = 16, sequences: int = 64) -> LayoutQuestion:
    return LayoutQuestion(ROUTED, default_cluster("H100-SXM", devices), sequences)


def two_sites(question: LayoutQuestion, bandwidth: float = 1e9, latency: float = 0.01) -> LayoutQuestion:
    """Two sites of the question's cluster, and twice the batch."""
    cluster: Cluster = question.cluster
    sites = (Site("here", cluster.devices), Site("there", cluster.devices))
    twice = replace(cluster, devices=2 * cluster.devices, sites=sites, wide=Wide(bandwidth, latency))
    return replace(question, cluster=twice, sequences=2 * question.sequences)
