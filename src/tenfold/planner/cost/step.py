"""Time of one training step, part by part.

First read `step_seconds`: stages of the pipeline work through micro-batches, then gradients are reduced and the
optimizer steps. `layer_seconds` is what one layer needs for one micro-batch. Functions that end in `_bytes` count what
one device puts into each collective, for one layer and one micro-batch.
"""

from dataclasses import dataclass, fields

import numpy as np

from tenfold.planner.cost.device import Constants, Device, dispatch_seconds, gather_seconds, neighbour_bandwidth
from tenfold.planner.cost.layout import Layout, Numbers, Shape, Stages, share_out
from tenfold.planner.cost.memory import (
    HeldParameters,
    held_parameters,
    layer_parameters,
    routed_parameters,
    same_experts,
)


def device_tokens(shape: Shape, layout: Layout) -> Numbers:
    """Tokens of one micro-batch on one device."""
    return layout.micro_batch * shape.context / layout.context


def tensor_bytes(shape: Shape, layout: Layout) -> Numbers:
    """One all-reduce of a tensor-parallel group, counted whole."""
    return device_tokens(shape, layout) * shape.width * layout.element_bytes


def context_bytes(shape: Shape, layout: Layout) -> Numbers:
    """Keys and values of the whole context, gathered over a context-parallel group."""
    tokens = device_tokens(shape, layout) * layout.context
    return 2 * tokens * shape.kv_heads * shape.head_dim / layout.tensor * layout.element_bytes


def expert_bytes(shape: Shape, layout: Layout) -> Numbers:
    """Tokens of one device, before each is copied to its experts."""
    return device_tokens(shape, layout) * shape.width * layout.element_bytes / layout.tensor


def shard_bytes(shape: Shape, layout: Layout) -> Numbers:
    """A layer's weights, gathered over the ranks that share one copy."""
    return layer_parameters(shape, layout) * layout.element_bytes


def send_bytes(shape: Shape, layout: Layout) -> Numbers:
    """Activations between two stages of a pipeline."""
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tensor, 1.0)
    return device_tokens(shape, layout) * shape.width * layout.element_bytes / split


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one layer for one micro-batch, forward and backward with what is computed again."""

    matmul: Numbers
    attention: Numbers
    elementwise: Numbers
    tensor: Numbers
    context: Numbers
    expert: Numbers
    launch: Numbers
    """What the device waits for the host."""
    shard: Numbers
    """Gathering of sharded weights that computing does not hide."""

    @property
    def total(self) -> Numbers:
        """Sum of all parts."""
        return (
            self.matmul
            + self.attention
            + self.elementwise
            + self.tensor
            + self.context
            + self.expert
            + self.launch
            + self.shard
        )


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step by part; they sum to `total`."""

    matmul: Numbers
    attention: Numbers
    elementwise: Numbers
    head: Numbers
    tensor: Numbers
    context: Numbers
    expert: Numbers
    shard: Numbers
    pipeline: Numbers
    bubble: Numbers
    data: Numbers
    optimizer: Numbers
    launch: Numbers
    fixed: Numbers
    scale: Numbers

    @property
    def total(self) -> Numbers:
        """Sum of all parts."""
        total: Numbers = 0.0
        for each in fields(self):
            total = total + getattr(self, each.name)
        return total


def step_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> StepTime:
    """Seconds of one step of each layout. Arrays broadcast against each other."""
    layer = layer_seconds(shape, layout, device, constants)
    one = layer.total
    stages = share_out(shape, layout)
    head = _head_seconds(shape, layout, device, constants)
    shared = np.asarray(layout.shared_head) > 0
    last_is_slowest = shared | (stages.last * one + head >= stages.fullest * one)
    layers = np.where(last_is_slowest & ~shared, stages.last, stages.fullest)
    send = _send_seconds(shape, layout, device, constants)
    rounds = layout.accumulation
    busy = layers * rounds
    held = stage_parameters(shape, layout, stages)
    parts = StepTime(
        matmul=layer.matmul * busy,
        attention=layer.attention * busy,
        elementwise=layer.elementwise * busy,
        head=np.where(last_is_slowest, np.where(shared, head / layout.pipeline, head), 0.0) * rounds,
        tensor=layer.tensor * busy,
        context=layer.context * busy,
        expert=layer.expert * busy,
        shard=layer.shard * busy,
        pipeline=send * rounds,
        bubble=_bubble_seconds(one * shape.layers / layout.pipeline + head / layout.pipeline + send, layout),
        data=_data_seconds(layout, device, constants, held),
        optimizer=_optimizer_seconds(layout, device, constants, held),
        launch=layer.launch * busy,
        fixed=constants.step_seconds,
        scale=0.0,
    )
    return _slowed(parts, layout, constants)


def total_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """`step_seconds(...).total`, for many layouts at once: parts are added up before they are multiplied out.

    Where fields of `layout` vary along axes of their own, most of it is computed on the small arrays.
    """
    one = layer_seconds(shape, layout, device, constants).total
    stages = share_out(shape, layout)
    head = _head_seconds(shape, layout, device, constants)
    send = _send_seconds(shape, layout, device, constants)
    held = stage_parameters(shape, layout, stages)
    after = _data_seconds(layout, device, constants, held)
    after = after + _optimizer_seconds(layout, device, constants, held) + constants.step_seconds
    bubble = _bubble_seconds(one * shape.layers / layout.pipeline + head / layout.pipeline + send, layout)
    slowest = np.maximum(stages.last * one + head, stages.fullest * one)
    shared = np.asarray(layout.shared_head) > 0
    slowest = np.where(shared, stages.fullest * one + head / layout.pipeline, slowest) if np.any(shared) else slowest
    slowed = constants.slowness * (1 + constants.scale_loss * _doublings(layout))
    return ((slowest + send) * layout.accumulation + bubble + after) * slowed


def layer_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> LayerTime:
    """Seconds of one layer for one micro-batch."""
    tokens = device_tokens(shape, layout)
    passes = 3.0 + (np.asarray(layout.recomputation) == 2)
    matmul = _matmul_seconds(shape, layout, device, constants, tokens) * passes
    attention = _attention_seconds(shape, layout, device, constants, tokens)
    elementwise = _elementwise_seconds(shape, layout, device, constants, tokens) * passes
    tensor = _tensor_seconds(shape, layout, device, constants)
    context = _context_seconds(shape, layout, device, constants)
    expert = _expert_seconds(shape, layout, device, constants)
    busy = matmul + attention + elementwise + tensor + context + expert
    collectives = 4 * passes / 3 * (np.asarray(layout.tensor) > 1) + 4 * (np.asarray(layout.expert) > 1)
    routed = shape.expert_layers / shape.layers
    piped = constants.pipeline_collective * layout.tensor * (np.asarray(layout.pipeline) > 1)
    host = (constants.launch + constants.expert_launch * routed) * passes
    host = host + (constants.collective_launch + piped) * collectives
    launch = _larger(busy, host) - busy
    gather = _shard_seconds(shape, layout, device, constants)
    computing = busy + launch
    shard = np.maximum(gather - computing, 0) + constants.shard_exposed * np.minimum(gather, computing)
    return LayerTime(matmul, attention, elementwise, tensor, context, expert, launch, shard)


def _larger(first: Numbers, second: Numbers) -> Numbers:
    """A maximum without a corner: where host and device are about as fast, each sometimes waits for the other."""
    high, low = np.maximum(first, second), np.minimum(first, second)
    return high * np.sqrt(np.sqrt(1 + (low / high) ** 4))


def product_seconds(rows: Numbers, inner: Numbers, columns: Numbers, device: Device, constants: Constants) -> Numbers:
    """Seconds of a matrix product at 16 bits. Short dimensions cost what the memory traffic of its operands does."""
    short = constants.matmul_half * (1 / rows + 1 / inner + 1 / columns)
    return 2 * rows * inner * columns / (device.attention_flops * constants.matmul_efficiency) * (1 + short)


def _matmul_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants, tokens: Numbers) -> Numbers:
    """The products of one layer, forward: queries, keys and values; output; MLP or experts."""
    width, split = shape.width, layout.tensor
    queries = shape.heads * shape.head_dim / split
    attention = product_seconds(tokens, width, queries * (1 + 2 * shape.kv_heads / shape.heads), device, constants)
    attention = attention + product_seconds(tokens, queries, width, device, constants)
    dense = _mlp_seconds(tokens, shape.mlp_width / split, shape, device, constants)
    if np.any(np.asarray(shape.experts) > 0):
        dense = _mixed(shape, dense, _experts_seconds(shape, layout, device, constants, tokens))
    return (attention + dense) * _low_precision(device, constants)


def _mlp_seconds(tokens: Numbers, hidden: Numbers, shape: Shape, device: Device, constants: Constants) -> Numbers:
    inwards = product_seconds(tokens, shape.width, hidden * (shape.mlp_matrices - 1), device, constants)
    return inwards + product_seconds(tokens, hidden, shape.width, device, constants)


def _experts_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants, tokens: Numbers) -> Numbers:
    """Products of the experts that one device holds, each on its share of the tokens, evenly spread."""
    experts = np.maximum(shape.experts, 1.0)
    here = experts / layout.expert
    each = tokens * layout.expert * shape.experts_per_token / experts
    hidden = np.maximum(shape.expert_width, 1.0) / layout.tensor
    routed = here * _mlp_seconds(np.maximum(each, 1e-9), hidden, shape, device, constants)
    return routed + shape.shared_experts * _mlp_seconds(tokens, hidden, shape, device, constants)


def _mixed(shape: Shape, dense: Numbers, experts: Numbers) -> Numbers:
    """The mean over a model's layers, of which some may be dense and some have experts."""
    share = shape.expert_layers / shape.layers
    return dense * (1 - share) + experts * share


def _low_precision(device: Device, constants: Constants) -> Numbers:
    """Time of products in fewer bits over that at 16, of whose nominal gain quantising takes some back."""
    nominal = device.attention_flops / device.matmul_flops
    return nominal + (1 - nominal) * (1 - np.minimum(constants.low_precision, 1.0))


def _attention_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants, tokens: Numbers) -> Numbers:
    """Scores and their product with the values. Fused attention skips what the causal mask hides; its backward pass
    computes the scores again, 5 products for 2 (Dao, arXiv 2307.08691, section 3.1). Unfused scores are computed
    whole, and written and read. Where the context is split, the rank with the most of the mask sets the pace."""
    heads = shape.heads / layout.tensor
    flops = 4 * tokens * shape.context * shape.head_dim * heads
    again = np.asarray(layout.recomputation) > 0
    fused = flops / 2 / (device.attention_flops * constants.attention_efficiency)
    moved = 2 * tokens * shape.context * heads * constants.scores
    unfused = flops / (device.attention_flops * constants.matmul_efficiency) + moved / (
        device.memory_bandwidth * constants.memory_efficiency
    )
    seconds: Numbers = np.where(np.asarray(layout.fused_attention) > 0, fused * (3.5 + again), unfused * (3.0 + again))
    return seconds * np.where(np.asarray(layout.context) > 1, np.maximum(constants.context_attention, 1.0), 1.0)


def _elementwise_seconds(
    shape: Shape, layout: Layout, device: Device, constants: Constants, tokens: Numbers
) -> Numbers:
    """Norms and residuals, which only sequence parallelism splits, and activations, which tensor parallelism does."""
    split = np.where(np.asarray(layout.sequence_parallel) > 0, layout.tensor, 1.0)
    hidden = shape.mlp_width * (shape.mlp_matrices - 1) / layout.tensor
    routed: Numbers = 0.0
    if np.any(np.asarray(shape.experts) > 0):
        used = shape.experts_per_token + shape.shared_experts
        hidden = _mixed(shape, hidden, used * shape.expert_width * (shape.mlp_matrices - 1) / layout.tensor)
        routed = constants.routing * shape.experts_per_token * shape.width * shape.expert_layers / shape.layers
    read = constants.elementwise * (shape.width / split + hidden / 4) + routed
    return tokens * read * layout.element_bytes / (device.memory_bandwidth * constants.memory_efficiency)


def _tensor_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """Two all-reduces forward and two backward, or as many reduce-scatters and all-gathers (Korthikanti et al.)."""
    reduces: Numbers = 4 + 2 * (np.asarray(layout.recomputation) == 2)
    one = 2 * gather_seconds(tensor_bytes(shape, layout), layout.tensor, 1.0, device, constants)
    return constants.tensor_exposed * reduces * one


def _context_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """Keys and values of the whole context, gathered forward and backward, their gradients scattered."""
    if not np.any(np.asarray(layout.context) > 1):
        return 0.0
    passes: Numbers = 3 + (np.asarray(layout.recomputation) == 2)
    one = gather_seconds(context_bytes(shape, layout), layout.context, layout.tensor, device, constants)
    return constants.context_exposed * passes * one


def _expert_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """Tokens sent to their experts and back, forward and backward: four all-to-alls."""
    if not np.any(np.asarray(layout.expert) > 1):
        return 0.0
    volume = expert_bytes(shape, layout)
    passes: Numbers = 4 + 2 * (np.asarray(layout.recomputation) == 2)
    one = dispatch_seconds(volume, shape.experts_per_token, layout.expert, layout.tensor, device, constants)
    return constants.expert_exposed * passes * one * shape.expert_layers / shape.layers


def _shard_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """FSDP: a layer's weights gathered forward and backward and its gradients scattered, for each micro-batch."""
    sharded = np.asarray(layout.zero_stage) == 3
    if not np.any(sharded):
        return 0.0
    routed = routed_parameters(shape, layout) * layout.element_bytes
    common = shard_bytes(shape, layout) - routed
    one = gather_seconds(common, layout.shards, layout.tensor, device, constants)
    if np.any(np.asarray(shape.experts) > 0):
        ranks = same_experts(layout.shards, layout)
        there = np.asarray(routed) > 0  # a dense shape among others has no such collective, and not its latency
        one = one + there * gather_seconds(routed, ranks, layout.tensor * layout.expert, device, constants)
    return np.where(sharded, one * (2 + layout.gradient_bytes / layout.element_bytes), 0.0)


def stage_parameters(shape: Shape, layout: Layout, stages: Stages) -> HeldParameters:
    """Parameters of the fullest pipeline stage on one device: its layers, and the embedding or the head."""
    matrices = np.where(np.asarray(layout.pipeline) > 1, 1.0, 2 - shape.tied_embeddings)
    return held_parameters(shape, layout, stages.fullest, matrices * shape.embedding_parameters / layout.tensor)


def _head_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """Logits and loss of one micro-batch, forward and backward, on the last stage, for which the others wait."""
    tokens = device_tokens(shape, layout)
    columns = shape.vocabulary / layout.tensor
    product = 3 * product_seconds(tokens, shape.width, columns, device, constants)
    moved = constants.head * 4 * tokens * columns
    return product + moved / (device.memory_bandwidth * constants.memory_efficiency)


def _send_seconds(shape: Shape, layout: Layout, device: Device, constants: Constants) -> Numbers:
    """Activations to the next stage and gradients to the one before, of one micro-batch through all chunks."""
    stride = layout.tensor * layout.context * layout.data
    volume = send_bytes(shape, layout)
    one = volume / neighbour_bandwidth(stride, device, constants) * constants.pipeline_send + constants.pipeline_launch
    return np.where(np.asarray(layout.pipeline) > 1, 2 * one * layout.interleaving, 0.0)


def _bubble_seconds(stage: Numbers, layout: Layout) -> Numbers:
    """Waiting of stages while the pipeline fills and drains: (p − 1) / v micro-batches of a stage's mean time.

    Narayanan et al., arXiv 2104.04473, section 2.2. Weight gradients in the bubble leave a third of it (ZB-H1 of Qi et
    al., arXiv 2401.10241).
    """
    left = np.where(np.asarray(layout.zero_bubble) > 0, 1 / 3, 1.0)
    return stage * left * (layout.pipeline - 1) / layout.interleaving


def _data_seconds(layout: Layout, device: Device, constants: Constants, held: HeldParameters) -> Numbers:
    """Gradients summed over all ranks with the same weights, as far as the backward pass does not hide it."""
    stride = layout.tensor
    seconds = _summed(held.common, layout.replicas, stride, layout.shards, layout, device, constants)
    if np.any(np.asarray(held.routed) > 0):
        ranks, shards = same_experts(layout.replicas, layout), same_experts(layout.shards, layout)
        routed = _summed(held.routed, ranks, stride * layout.expert, shards, layout, device, constants)
        seconds = seconds + (np.asarray(held.routed) > 0) * routed
    return constants.data_exposed * seconds * layout.reductions


def _summed(
    parameters: Numbers,
    ranks: Numbers,
    stride: Numbers,
    shards: Numbers,
    layout: Layout,
    device: Device,
    constants: Constants,
) -> Numbers:
    """An all-reduce of gradients; with ZeRO 1 and 2 their reduce-scatter and the all-gather of the new weights, which
    have 16 bits. Under FSDP in groups, the shards are summed over the groups."""
    volume = parameters * layout.gradient_bytes
    scatter = gather_seconds(volume, ranks, stride, device, constants)
    back = np.where(np.asarray(layout.zero_stage) >= 1, layout.element_bytes / layout.gradient_bytes, 1.0)
    between = 2 * gather_seconds(volume / shards, ranks / shards, stride * shards, device, constants)
    return np.where(np.asarray(layout.zero_stage) == 3, between, scatter * (1 + back))


def _optimizer_seconds(layout: Layout, device: Device, constants: Constants, held: HeldParameters) -> Numbers:
    own = np.where(np.asarray(layout.sharding) >= 1, held.sharded(layout), held.common + held.routed)
    return own * constants.optimizer_bytes / (device.memory_bandwidth * constants.memory_efficiency)


def _slowed(parts: StepTime, layout: Layout, constants: Constants) -> StepTime:
    """Jitter grows with the devices; slowness holds for every part."""
    slowed = {each.name: getattr(parts, each.name) * constants.slowness for each in fields(parts)}
    slowed["scale"] = parts.total * constants.slowness * constants.scale_loss * _doublings(layout)
    return StepTime(**slowed)


def _doublings(layout: Layout) -> Numbers:
    """Doublings of the devices beyond 8."""
    return np.log2(np.maximum(layout.devices / 8, 1.0))
