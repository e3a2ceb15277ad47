"""What is known of each constant before any run is looked at, and how far frameworks, sites and devices may differ.

Means come from published measurements: large products reach 0.73 to 0.87 of the peak (ml-engineering, MAMF table),
NCCL's all-reduce 0.75 to 0.9 of NVLink and of the network cards (ml-engineering, network benchmarks), FlashAttention-2
and 3 half to 0.75 of the peak (arXiv 2307.08691, 2407.08608), Adam with fp32 master weights moves about 30 bytes a
parameter.
Spreads are in natural logarithms: 0.1 is a tenth up or down.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.cost.constants import NAMES
from tenfold.planner.cost.numbers import Array


@dataclass(frozen=True)
class Prior:
    """Mean of a constant, the spread of the mean itself, and the spreads of deviations at each level."""

    mean: float
    spread: float
    framework: float
    site: float = 0.0
    accelerator: float = 0.0
    release: float = 0.0
    experts: float = 0.0


PRIORS: dict[str, Prior] = {
    "matmul_efficiency": Prior(0.72, 0.05, 0.05, accelerator=0.05, experts=0.1),
    "matmul_half": Prior(150, 0.5, 0.5),
    "low_precision": Prior(0.75, 0.25, 0.1),
    "memory_efficiency": Prior(0.80, 0.10, 0.05),
    "elementwise": Prior(16, 0.3, 0.3, experts=0.3),
    "attention_efficiency": Prior(0.5, 0.3, 0.2, accelerator=0.2),
    "scores": Prior(6, 0.5, 0.3),
    "routing": Prior(10, 0.7, 0.3),
    "launch": Prior(3e-4, 0.5, 0.5, site=0.3, release=0.3, experts=0.2),
    "expert_launch": Prior(6e-4, 0.5, 0.3, release=0.5),
    "collective_launch": Prior(5e-5, 0.7, 0.5),
    "pipeline_collective": Prior(2e-6, 1.0, 2.0),
    "link_efficiency": Prior(0.75, 0.12, 0.12),
    "network_efficiency": Prior(0.70, 0.20, 0.15, site=0.3),
    "latency": Prior(8, 0.7, 0.3),
    "tensor_exposed": Prior(0.8, 0.3, 0.4),
    "context_exposed": Prior(0.4, 0.6, 0.3),
    "expert_exposed": Prior(0.6, 0.5, 0.3),
    "data_exposed": Prior(0.5, 0.6, 0.6),
    "shard_exposed": Prior(0.15, 0.7, 0.6),
    "pipeline_send": Prior(1.0, 0.5, 0.5),
    "pipeline_launch": Prior(1e-4, 1.0, 1.5),
    "head": Prior(4, 0.3, 0.3, experts=0.2),
    "optimizer_bytes": Prior(30, 0.3, 0.3),
    "step_seconds": Prior(0.01, 0.7, 0.5),
    "scale_loss": Prior(0.005, 0.4, 0.3, site=0.3),
    "slowness": Prior(1.0, 0.05, 0.20, site=0.10, accelerator=0.05, release=0.05, experts=0.15),
}
LEVELS: tuple[str, ...] = ("framework", "site", "accelerator", "release", "experts")
"""Deviations that are added up, in natural logarithms."""


def means() -> Array:
    """Logarithms of the means, in the order of `Constants`."""
    return np.log([PRIORS[name].mean for name in NAMES])


def spreads(level: str) -> Array:
    """Of one level, or with "spread" of the means."""
    return np.array([getattr(PRIORS[name], level) for name in NAMES])
