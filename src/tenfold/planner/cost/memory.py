"""Memory of one device at its fullest moment, part by part.

The fullest of three stages counts: the first, which holds activations of the most micro-batches; the first with the
most layers; and the last, which holds the logits.
"""

from dataclasses import dataclass, fields

import numpy as np

from tenfold.planner.cost.layout import Layout, Numbers, Shape, share_out


@dataclass(frozen=True)
class MemoryConstants:
    """Calibrated constants of memory."""

    width: Numbers
    """Tensors as wide as the model that a layer keeps for its backward pass."""
    hidden: Numbers
    """Tensors as wide as the MLP's inner one, gate included."""
    gathered: Numbers
    """Tensors as wide as the model that tensor parallelism keeps whole on each device, without a pipeline."""
    logits: Numbers
    """Bytes for each logit of a micro-batch."""
    logits_again: Numbers
    """Share of that once more where micro-batches follow one another."""
    gradient_bytes: Numbers
    """Bytes for each parameter, buffers of the reduction included."""
    optimizer_bytes: Numbers
    """Bytes for each parameter before sharding: fp32 weight, two moments, temporaries."""
    base: Numbers
    """Bytes that are there in any case: context, communication buffers, workspace."""


@dataclass(frozen=True)
class Memory:
    """Bytes by part; they sum to `total`."""

    weights: Numbers
    gradients: Numbers
    optimizer: Numbers
    activations: Numbers
    logits: Numbers
    buffers: Numbers

    @property
    def total(self) -> Numbers:
        """Sum of all parts."""
        total: Numbers = 0.0
        for each in fields(self):
            total = total + getattr(self, each.name)
        return total


@dataclass(frozen=True)
class HeldParameters:
    """Parameters of one device: those that all replicas have too, and those of its routed experts, which fewer have."""

    common: Numbers
    routed: Numbers

    def sharded(self, layout: Layout) -> Numbers:
        """Parameters left for each rank when ranks with the same ones share them out."""
        return self.common / layout.shards + self.routed / same_experts(layout.shards, layout)


def same_experts(ranks: Numbers, layout: Layout) -> Numbers:
    """Number of those of `ranks` replicas that hold the same experts."""
    return np.maximum(ranks / layout.expert, 1.0)


def held_parameters(shape: Shape, layout: Layout, layers: Numbers, embedding: Numbers) -> HeldParameters:
    """Parameters on one device of a stage with so many layers and embedding parameters."""
    routed = layers * routed_parameters(shape, layout)
    return HeldParameters(layers * layer_parameters(shape, layout) - routed + embedding, routed)


def memory_bytes(shape: Shape, layout: Layout, constants: MemoryConstants) -> Memory:
    """Peak bytes on the fullest device of each layout."""
    first, middle, last = _stages(shape, layout, constants)
    return _fullest(_fullest(first, middle), last)


def total_bytes(shape: Shape, layout: Layout, constants: MemoryConstants) -> Numbers:
    """`memory_bytes(...).total`, for many layouts at once: parts that vary least are added up first."""
    first, middle, last = (
        each.weights + each.gradients + each.optimizer + (each.logits + each.buffers) + each.activations
        for each in _stages(shape, layout, constants)
    )
    return np.maximum(np.maximum(first, middle), last)


def _stages(shape: Shape, layout: Layout, constants: MemoryConstants) -> tuple[Memory, Memory, Memory]:
    """The first stage, the first of those with the most layers, and the last."""
    stages = share_out(shape, layout)
    ends = np.asarray(layout.pipeline) == 1
    embedding = shape.embedding_parameters / layout.tensor
    both = np.where(ends, embedding * (2 - shape.tied_embeddings), embedding)
    return (
        _stage(shape, layout, constants, stages.first, 0.0, both, ends),
        _stage(shape, layout, constants, stages.fullest, stages.fullest_at, np.where(ends, both, 0.0), ends),
        _stage(shape, layout, constants, stages.last, layout.pipeline - 1, both, True),
    )


def _stage(
    shape: Shape,
    layout: Layout,
    constants: MemoryConstants,
    layers: Numbers,
    number: Numbers,
    embedding: Numbers,
    has_head: Numbers | bool,
) -> Memory:
    """Memory of stage `number`, which holds so many layers and embedding parameters."""
    held = held_parameters(shape, layout, layers, embedding)  # FSDP shards the optimizer's fp32 weights and no others
    sharding = np.asarray(layout.zero_stage)
    tokens = layout.micro_batch * shape.context / layout.context
    one_after_another: Numbers = np.asarray(layout.accumulation) > 1
    logits = tokens * shape.vocabulary / layout.tensor * constants.logits
    logits = logits * (1 + constants.logits_again * one_after_another)
    gathered = (
        2 * layer_parameters(shape, layout) * layout.element_bytes * (sharding == 3)
    )  # one in use, one on its way
    return Memory(
        weights=np.where(sharding == 3, 0.0, layout.element_bytes) * (held.common + held.routed),
        gradients=constants.gradient_bytes * layout.gradient_bytes / 4 * _kept(held, layout, sharding >= 2),
        optimizer=constants.optimizer_bytes * _kept(held, layout, sharding >= 1),
        activations=_activation_bytes(shape, layout, constants, layers, number),
        logits=np.where(has_head, logits, 0.0),
        buffers=constants.base + gathered,
    )


def _activation_bytes(
    shape: Shape, layout: Layout, constants: MemoryConstants, layers: Numbers, number: Numbers
) -> Numbers:
    """What a stage's layers keep for the micro-batches under way: pipeline − number of them in 1F1B, and with
    interleaving (p − 1) / v of a stage more (Korthikanti et al., arXiv 2205.05198, section 4.2 and appendix)."""
    tokens = layout.micro_batch * shape.context / layout.context * layout.element_bytes
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tensor, 1.0)
    hidden = shape.mlp_width * (shape.mlp_matrices - 1)
    if np.any(np.asarray(shape.experts) > 0):
        share = shape.expert_layers / shape.layers
        used = (shape.experts_per_token + shape.shared_experts) * shape.expert_width * (shape.mlp_matrices - 1)
        hidden = hidden * (1 - share) + used * share
    unfused = 2.5 * shape.heads * shape.context / layout.tensor * (np.asarray(layout.fused_attention) == 0)
    unfused = unfused * (np.asarray(layout.recomputation) == 0)
    gathered = constants.gathered * shape.width * ((np.asarray(layout.tensor) > 1) & (np.asarray(layout.pipeline) == 1))
    kept = constants.width * shape.width / split + constants.hidden * hidden / layout.tensor + unfused + gathered
    kept = kept + _routed_copies(shape) / layout.tensor
    more = np.where(np.asarray(layout.interleaving) > 1, (layout.pipeline - 1) / layout.interleaving, 0.0)
    under_way = np.minimum(layout.pipeline - number + more, layout.accumulation)
    full = np.asarray(layout.recomputation) == 2
    inputs = tokens * shape.width / split * layers * under_way
    held: Numbers = np.where(full, inputs + tokens * kept, tokens * kept * layers * under_way)
    return held


def _routed_copies(shape: Shape) -> Numbers:
    """Widths of a token's copies for its experts: inputs, kept for the gradients of the experts' weights."""
    return shape.experts_per_token * shape.width * shape.expert_layers / shape.layers


def _kept(held: HeldParameters, layout: Layout, sharded: Numbers) -> Numbers:
    """Parameters that one device keeps, where `sharded` says that ranks with the same ones share them out."""
    return np.where(sharded, held.sharded(layout), held.common + held.routed)


def routed_parameters(shape: Shape, layout: Layout) -> Numbers:
    """Parameters of the routed experts of one layer (the mean of all) in one tensor- and expert-parallel part."""
    share = shape.expert_layers / shape.layers
    return share * shape.experts / layout.expert * shape.expert_parameters / layout.tensor


def layer_parameters(shape: Shape, layout: Layout) -> Numbers:
    """Parameters of one layer (the mean of all) in one tensor- and expert-parallel part."""
    mlp = shape.mlp_parameters
    if np.any(np.asarray(shape.experts) > 0):
        share = shape.expert_layers / shape.layers
        experts = (shape.experts / layout.expert + shape.shared_experts) * shape.expert_parameters
        mlp = mlp * (1 - share) + experts * share
    return (shape.attention_parameters + mlp) / layout.tensor


def _fullest(first: Memory, second: Memory) -> Memory:
    """The stage that holds more, for each layout."""
    more = np.asarray(first.total) >= np.asarray(second.total)
    return Memory(
        **{each.name: np.where(more, getattr(first, each.name), getattr(second, each.name)) for each in fields(Memory)}
    )
