"""How a pipeline's stages share out the layers."""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.cost.shape import Shape


@dataclass(frozen=True)
class Stages:
    """Layers of the stages that matter: the first holds the most micro-batches, the last the head."""

    first: Numbers
    fullest: Numbers
    fullest_at: Numbers
    """Number of the first stage that is as full, from 0."""
    last: Numbers


def share_out(shape: Shape, layout: Layout) -> Stages:
    """Layers of each stage, in one of three ways.

    Evenly, where layers divide by chunks (Megatron-LM). Else embedding and head take the place of a layer each. With
    `balanced_stages` the head counts as many layers as it has parameters, and stages are filled one after another up to
    their share, as nanotron does.
    """
    pipeline = layout.pipeline
    even = np.mod(shape.layers, pipeline * layout.interleaving) == 0
    balanced = np.asarray(layout.balanced_stages) > 0
    head = shape.embedding_parameters / (shape.attention_parameters + shape.mlp_parameters)
    share = (shape.layers + np.where(balanced, head, 2.0)) / pipeline
    below = np.floor(share + 1e-9)
    rest = share - below
    uneven = rest > 1e-9
    fullest_at = np.where(uneven, np.ceil(1 / np.maximum(rest, 1e-9) - 1e-9) - 1, 0.0)
    last = np.where(balanced, np.maximum(shape.layers - np.floor(share * (pipeline - 1) + 1e-9), 0.0), below)
    first = np.where(balanced, below, np.maximum(below + uneven - 1, 0.0))
    flat = even & ~balanced
    each = shape.layers / pipeline
    alone = np.asarray(pipeline) == 1
    return Stages(
        first=np.where(alone | flat, each, first),
        fullest=np.where(alone | flat, each, np.minimum(below + uneven, shape.layers)),
        fullest_at=np.where(alone | flat, 0.0, np.minimum(fullest_at, pipeline - 1)),
        last=np.where(alone | flat, each, last),
    )
