"""What is known of each constant of time before any run is looked at, and how far labels of each level may differ.

Means come from published measurements: large products reach 0.73 to 0.87 of the peak (ml-engineering, MAMF
table), NCCL's all-reduce 0.75 to 0.9 of NVLink and of the network cards (ml-engineering, network benchmarks),
FlashAttention-2 and 3 half to 0.75 of the peak (arXiv 2307.08691, 2407.08608), Adam with fp32 master weights moves
about 30 bytes a parameter. Spreads are in natural logarithms: 0.1 is a tenth up or down.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.cost.device import CONSTANT_NAMES, Constants
from tenfold.planner.cost.layout import Array


@dataclass(frozen=True)
class ConstantPrior:
    """Mean of a constant, the spread of the mean itself, and the spreads of deviations at each level."""

    mean: float
    spread: float
    framework: float
    site: float = 0.0
    accelerator: float = 0.0
    release: float = 0.0
    experts: float = 0.0


PRIORS: dict[str, ConstantPrior] = {
    "matmul_efficiency": ConstantPrior(0.72, 0.05, 0.05, accelerator=0.05, experts=0.1),
    "matmul_half": ConstantPrior(150, 0.5, 0.5),
    "low_precision": ConstantPrior(0.75, 0.25, 0.1),
    "memory_efficiency": ConstantPrior(0.80, 0.10, 0.05),
    "elementwise": ConstantPrior(16, 0.3, 0.3, experts=0.3),
    "attention_efficiency": ConstantPrior(0.5, 0.3, 0.2, accelerator=0.2),
    "context_attention": ConstantPrior(1.3, 0.15, 0.25),
    "scores": ConstantPrior(6, 0.5, 0.3),
    "routing": ConstantPrior(10, 0.7, 0.3),
    "launch": ConstantPrior(3e-4, 0.5, 0.5, site=0.3, release=0.3, experts=0.2),
    "expert_launch": ConstantPrior(6e-4, 0.5, 0.3, release=0.5),
    "collective_launch": ConstantPrior(5e-5, 0.7, 0.5),
    "pipeline_collective": ConstantPrior(2e-6, 1.0, 2.0),
    "link_efficiency": ConstantPrior(0.75, 0.12, 0.12),
    "network_efficiency": ConstantPrior(0.70, 0.20, 0.15, site=0.3),
    "latency": ConstantPrior(8, 0.7, 0.3),
    "tensor_exposed": ConstantPrior(0.8, 0.3, 0.4),
    "context_exposed": ConstantPrior(0.4, 0.6, 0.3),
    "expert_exposed": ConstantPrior(0.6, 0.5, 0.3),
    "data_exposed": ConstantPrior(0.5, 0.6, 0.6),
    "shard_exposed": ConstantPrior(0.15, 0.7, 0.6),
    "pipeline_send": ConstantPrior(1.0, 0.5, 0.5),
    "pipeline_launch": ConstantPrior(1e-4, 1.0, 1.5),
    "head": ConstantPrior(4, 0.3, 0.3, experts=0.2),
    "optimizer_bytes": ConstantPrior(30, 0.3, 0.3),
    "step_seconds": ConstantPrior(0.01, 0.7, 0.5),
    "scale_loss": ConstantPrior(0.005, 0.4, 0.3, site=0.3),
    "slowness": ConstantPrior(1.0, 0.05, 0.20, site=0.10, accelerator=0.05, release=0.05, experts=0.15),
}


def prior_means() -> Array:
    """Logarithms of the means, in the order of `Constants`."""
    return np.log([PRIORS[name].mean for name in CONSTANT_NAMES])


def prior_spreads(level: str) -> Array:
    """Spreads of the deviations at one level, or with "spread" those of the means."""
    return np.array([getattr(PRIORS[name], level) for name in CONSTANT_NAMES])


def constants_from(logarithms: Array) -> Constants:
    """Constants from their logarithms, shape (constants,) or (runs, constants)."""
    values = np.exp(logarithms)
    return Constants(**{name: values[..., number] for number, name in enumerate(CONSTANT_NAMES)})
