"""What is asked: which layout of this shape, on this cluster, for this batch."""

from dataclasses import dataclass, fields

import numpy as np

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.cost.device import Constants, Device, Hop
from tenfold.planner.cost.layout import Layout, Numbers, Shape
from tenfold.planner.hardware.accelerator import Precision, beside_reference
from tenfold.planner.hardware.cluster import Cluster

MEMORY_SHARE = 0.94
"""Of a device's memory that a forecast may fill: 75 of 80 GB. Allocators need the rest."""
MOST_SEQUENCES = 100_000_000
"""Of a global batch."""
LARGEST_SHAPE = {"layers": 1e4, "width": 1e7, "heads": 1e5, "experts": 1e6, "context": 1e9, "vocabulary": 1e9}
NO_ZERO_BUBBLE = frozenset({"llm-foundry", "maxtext", "megatron-core", "megatron-deepspeed", "nanotron"})
"""Frameworks that do not ship a schedule which fills the bubble with weight gradients."""


@dataclass(frozen=True)
class LayoutQuestion:
    """One shape on one cluster. A cluster of several sites runs data-parallel across them, in step."""

    shape: Shape
    """Fields are single numbers."""
    cluster: Cluster
    sequences: int
    """Global batch."""
    precision: Precision = "bf16"
    """Of matrix products; the accelerator must have a published peak in it."""
    framework: str = "megatron-core"
    """Whose calibration counts; one that was never measured gets the mean of all."""
    recomputations: tuple[int, ...] = (0, 1, 2)
    """None, selective, full."""
    shardings: tuple[int, ...] = (0, 1, 2, 3)
    """ZeRO stages; 3 is FSDP, whole or in groups (HSDP)."""
    interleaved: bool = True
    zero_bubble: bool = True
    """Where the framework has it."""
    gradient_bytes: float = 4.0
    memory_share: float = MEMORY_SHARE

    @property
    def sites(self) -> int:
        """Places that the cluster has."""
        return len(self.cluster.sites)

    @property
    def site_devices(self) -> int:
        """Devices of one site."""
        return self.cluster.devices // self.sites

    @property
    def tokens(self) -> float:
        """Tokens of one step."""
        return self.sequences * float(self.shape.context)

    @property
    def memory_limit(self) -> float:
        """Bytes that one device's forecast may reach."""
        return self.memory_share * self.cluster.accelerator.memory_bytes

    @property
    def has_zero_bubble(self) -> bool:
        """Whether such a schedule may be chosen."""
        return self.zero_bubble and self.framework not in NO_ZERO_BUBBLE

    @property
    def experts(self) -> bool:
        """Whether the shape has any."""
        return float(self.shape.experts) > 0


def check_question(question: LayoutQuestion) -> None:
    """Raises InputError, in one line, where no layout could be an answer."""
    _check_shape(question.shape)
    _check_cluster(question)
    if not 1 <= question.sequences <= MOST_SEQUENCES:
        raise InputError(
            f"a global batch of {question.sequences:,} sequences; it has at least 1 and at most {MOST_SEQUENCES:,}"
        )
    if question.sequences % question.sites:
        raise InputError(
            f"a global batch of {question.sequences} sequences does not divide over {question.sites} sites"
        )
    if not 0 < question.memory_share <= 1:
        raise InputError(f"memory_share = {question.memory_share}: it lies between 0 and 1")
    if not question.recomputations or not set(question.recomputations) <= {0, 1, 2}:
        raise InputError(f"recomputations = {question.recomputations}: some of 0 (none), 1 (selective), 2 (full)")
    if not question.shardings or not set(question.shardings) <= {0, 1, 2, 3}:
        raise InputError(f"shardings = {question.shardings}: some of the ZeRO stages 0 to 3")


def _check_shape(shape: Shape) -> None:
    for each in fields(shape):
        value = getattr(shape, each.name)
        if np.ndim(value) or not np.isfinite(value):
            raise InputError(f"shape: {each.name} = {value} is not one finite number")
    for name in ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_matrices", "vocabulary", "context"):
        if float(getattr(shape, name)) < 1:
            raise InputError(f"shape: {name} = {getattr(shape, name):g}; it must be at least 1")
    if not shape.mlp_width and not shape.experts:
        raise InputError("shape: mlp_width = 0; it must be at least 1")
    for name, most in LARGEST_SHAPE.items():
        if float(getattr(shape, name)) > most:
            raise InputError(f"shape: {name} = {getattr(shape, name):g}; at most {most:g} can be planned")
    if shape.heads % shape.kv_heads:
        raise InputError(
            f"shape: {shape.heads:g} heads do not divide over {shape.kv_heads:g} groups of keys and values"
        )
    if shape.experts and not 1 <= shape.experts_per_token <= shape.experts:
        raise InputError(f"shape: experts_per_token = {shape.experts_per_token:g} of {shape.experts:g} experts")


def _check_cluster(question: LayoutQuestion) -> None:
    cluster = question.cluster
    if cluster.devices < 1 or not cluster.sites or not cluster.tiers:
        raise InputError(f"{cluster.name}: a cluster has at least one device, one site and one tier")
    if len({site.devices for site in cluster.sites}) > 1:
        sizes = ", ".join(f"{site.name} {site.devices:,}" for site in cluster.sites)
        raise InputError(f"{cluster.name}: training in step needs sites of equal size, here {sizes}")
    for tier in cluster.tiers:
        if tier.usable_bandwidth <= 0 and tier.devices > 1:
            raise InputError(f"{cluster.name}: tier {tier.name!r} has no bandwidth")
    peaks = cluster.accelerator.peak_flops
    if question.precision not in peaks:
        raise InputError(
            f"{cluster.accelerator.name} has no published peak in {question.precision}; it has {', '.join(peaks)}"
        )


def device_of(question: LayoutQuestion) -> Device:
    """Rates of one device of the cluster, and the tiers of its site. What it reaches of its peaks beside the reference
    part is in them (`beside_reference`)."""
    chip = question.cluster.accelerator
    share = beside_reference(chip)
    peaks = chip.peak_flops
    sixteen = peaks.get("bf16") or peaks.get("fp16") or peaks[question.precision]
    return Device(
        matmul_flops=peaks[question.precision] * share,
        attention_flops=(sixteen if question.precision != "fp32" else peaks["fp32"]) * share,
        memory_bandwidth=chip.memory_bandwidth,
        hops=tuple(
            Hop(float(tier.devices), tier.usable_bandwidth or np.inf, tier.latency) for tier in question.cluster.tiers
        ),
    )


def constants_of(question: LayoutQuestion, calibrated: Calibrated) -> Constants:
    """Constants of time for the question's framework, accelerator and kind of model."""
    return calibrated.constants(question.framework, question.cluster.accelerator, experts=question.experts)


def model_flops(question: LayoutQuestion) -> float:
    """FLOPs of one step: 6 for each multiplying parameter and token, and causal attention; nothing computed again."""
    return float(question.shape.training_flops_per_token) * question.tokens


def hardware_flops(question: LayoutQuestion, layout: Layout) -> float:
    """FLOPs with what recomputation adds: the attention's forward pass if selective, that of all layers if full.

    What fused attention computes again inside its backward pass is not counted, as nobody does.
    """
    return model_flops(question) + float(_again(question, float(layout.recomputation))) * question.tokens


def _again(question: LayoutQuestion, recomputation: float) -> Numbers:
    shape = question.shape
    attention = 2 * shape.layers * shape.heads * shape.head_dim * shape.context
    if recomputation == 2:
        return 2 * (shape.active_parameters - shape.embedding_parameters) + attention
    return attention if recomputation == 1 else 0.0
