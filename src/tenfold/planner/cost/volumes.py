"""Bytes that one device puts into each collective, for one layer and one micro-batch."""

import numpy as np

from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.memory import layer_parameters
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.cost.shape import Shape


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
