"""How long one more token takes when the finished model answers.

Decoding reads all weights that a batch uses and all keys and values once for each token of every sequence, so it is
bound by memory bandwidth until the batch is large (Pope et al., arXiv 2211.05102, section 2.1).
"""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.codesign.goal import ServingSection
from tenfold.planner.cost.constants import Constants
from tenfold.planner.cost.shape import Shape
from tenfold.planner.hardware import Accelerator, accelerator, default_cluster

CACHE_BYTES = 2
ROOM = 0.9
"""Share of the memory that weights and cache may fill."""
REDUCES = 2
"""All-reduces of one layer when it is split over devices."""


@dataclass(frozen=True)
class Serving:
    """What is asked of the finished model."""

    accelerator: Accelerator
    devices: int
    batch: int
    context: int
    seconds_per_token: float
    weight_bytes: float
    hop_seconds: float
    """Of one message inside the scale-up domain."""


def serving_of(section: ServingSection) -> Serving:
    """Raises InputError for an unknown accelerator."""
    chip = accelerator(section.accelerator)
    latency = default_cluster(section.accelerator, 1).tiers[0].latency
    return Serving(
        accelerator=chip,
        devices=section.devices,
        batch=section.batch,
        context=section.context,
        seconds_per_token=section.milliseconds_per_token / 1e3,
        weight_bytes=section.weight_bytes,
        hop_seconds=latency,
    )


def decode_seconds(shape: Shape, serving: Serving, constants: Constants) -> float:
    """Seconds of one token for every sequence of the batch; infinite where one copy does not fit on its devices."""
    weights = float(shape.parameters) * serving.weight_bytes
    cache = _cache_bytes(shape, serving)
    if weights + cache > ROOM * serving.devices * serving.accelerator.memory_bytes:
        return float("inf")
    read = _used_parameters(shape, serving.batch) * serving.weight_bytes + cache
    memory = read / (serving.devices * serving.accelerator.memory_bandwidth * float(constants.memory_efficiency))
    return max(memory, _compute_seconds(shape, serving, constants)) + _waiting(shape, serving)


def _cache_bytes(shape: Shape, serving: Serving) -> float:
    of_token = 2 * float(shape.layers) * float(shape.kv_heads) * float(shape.head_dim) * CACHE_BYTES
    return of_token * serving.context * serving.batch


def _used_parameters(shape: Shape, batch: int) -> float:
    """Of experts those that at least one sequence is sent to, evenly drawn; the input embedding is only looked up."""
    all_but_input = float(shape.parameters) - float(shape.embedding_parameters) * (1 - float(shape.tied_embeddings))
    if not float(shape.experts):
        return all_but_input
    experts = float(shape.experts)
    idle = experts * (1 - float(shape.experts_per_token) / experts) ** batch
    return all_but_input - idle * float(shape.expert_layers) * float(shape.expert_parameters)


def _compute_seconds(shape: Shape, serving: Serving, constants: Constants) -> float:
    peaks = serving.accelerator.peak_flops
    peak = peaks.get("bf16") or peaks.get("fp16") or max(peaks.values())
    flops = 2 * float(shape.active_parameters) * serving.batch
    return flops / (serving.devices * peak * float(constants.matmul_efficiency))


def _waiting(shape: Shape, serving: Serving) -> float:
    """Latency of the all-reduces that splitting over devices needs."""
    stages = 2 * float(np.ceil(np.log2(serving.devices))) if serving.devices > 1 else 0.0
    return REDUCES * float(shape.layers) * stages * serving.hop_seconds
