"""A transformer's shape, its layout over devices, and how the stages of a pipeline share out its layers."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = float | npt.NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer, dense or with mixture-of-experts layers. Fields are numbers or arrays alike."""

    layers: Numbers
    width: Numbers
    heads: Numbers
    kv_heads: Numbers
    head_dim: Numbers
    mlp_width: Numbers
    """Hidden width of a dense MLP; of the leading dense layers if there are experts."""
    mlp_matrices: Numbers
    """Matrices of one MLP or expert: 3 if gated, else 2."""
    vocabulary: Numbers
    context: Numbers
    experts: Numbers = 0.0
    """Routed experts of a layer; 0 for a dense model."""
    experts_per_token: Numbers = 0.0
    shared_experts: Numbers = 0.0
    expert_width: Numbers = 0.0
    dense_layers: Numbers = 0.0
    """Leading layers without experts, in a model that has experts."""
    tied_embeddings: Numbers = 0.0

    @property
    def attention_parameters(self) -> Numbers:
        """Parameters of one layer's attention: queries, keys, values, output."""
        return 2 * self.width * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> Numbers:
        """Parameters of one dense MLP."""
        return self.mlp_matrices * self.width * self.mlp_width

    @property
    def expert_parameters(self) -> Numbers:
        """Parameters of one expert."""
        return self.mlp_matrices * self.width * self.expert_width

    @property
    def expert_layers(self) -> Numbers:
        """Layers that have experts."""
        return np.where(np.asarray(self.experts) > 0, self.layers - self.dense_layers, 0.0)

    @property
    def embedding_parameters(self) -> Numbers:
        """Parameters of one embedding matrix."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> Numbers:
        """All parameters, gains of norms left out."""
        routed = self.expert_layers * (self.experts + self.shared_experts) * self.expert_parameters
        router = self.expert_layers * self.width * self.experts
        dense = (self.layers - self.expert_layers) * self.mlp_parameters
        matrices = 2 - self.tied_embeddings
        return self.layers * self.attention_parameters + dense + routed + router + matrices * self.embedding_parameters

    @property
    def active_parameters(self) -> Numbers:
        """Parameters that one token is multiplied with; looking up the input embedding multiplies nothing."""
        used = self.expert_layers * (self.experts_per_token + self.shared_experts) * self.expert_parameters
        dense = (self.layers - self.expert_layers) * self.mlp_parameters
        return self.layers * self.attention_parameters + dense + used + self.embedding_parameters

    @property
    def training_flops_per_token(self) -> Numbers:
        """6 for each multiplying parameter, and causal attention.

        PaLM's counting (Chowdhery et al., arXiv 2204.02311, appendix B) with attention halved for the causal mask.
        """
        return 6 * self.active_parameters + 6 * self.layers * self.heads * self.head_dim * self.context


RECOMPUTATIONS = ("none", "selective", "full")


@dataclass(frozen=True)
class Layout:
    """Degrees of parallelism and the batch. Fields are numbers or arrays.

    Ranks are numbered through the tensor group first, then context, data, and the pipeline last, as Megatron-LM does.
    Expert parallelism shares out experts among devices of the same data-parallel group, so it takes none of its own.
    """

    tensor: Numbers
    pipeline: Numbers
    data: Numbers
    micro_batch: Numbers
    """Sequences of one micro-batch."""
    accumulation: Numbers
    """Micro-batches of one step on each data-parallel rank."""
    context: Numbers = 1.0
    expert: Numbers = 1.0
    interleaving: Numbers = 1.0
    """Model chunks on each pipeline stage (Narayanan et al., arXiv 2104.04473, section 2.2)."""
    zero_bubble: Numbers = 0.0
    """1 if weight gradients fill the bubble (Qi et al., arXiv 2401.10241)."""
    balanced_stages: Numbers = 0.0
    """0 if layers are shared out evenly; 1 if stages are filled in turn by what layers and head cost; 2 if the last
    stage has as many fewer as makes the slowest one fastest."""
    sharding: Numbers = 1.0
    """ZeRO stage 0 to 3 (Rajbhandari et al., arXiv 1910.02054); 3 is FSDP."""
    shard_group: Numbers = 0.0
    """Ranks with the same weights that share one copy under ZeRO; 0 for all. HSDP copies between such groups."""
    sequence_parallel: Numbers = 1.0
    """1 if norms and residuals are split over the tensor-parallel group too (Korthikanti et al., arXiv 2205.05198)."""
    recomputation: Numbers = 0.0
    """0 none, 1 selective (attention scores), 2 full."""
    fused_attention: Numbers = 1.0
    """1 if scores are never written to memory (Dao et al., arXiv 2205.14135)."""
    reductions: Numbers = 1.0
    """Times that gradients are summed in one step; as many as micro-batches where a framework does it after each."""
    gradient_bytes: Numbers = 4.0
    """Bytes of one element of the gradients when they are summed: 4 or 2."""

    element_bytes: Numbers = 2.0
    """Bytes of a weight or an activation: 2, or 4 in fp32. Fewer bits of products change neither."""
    shared_head: Numbers = 0.0
    """1 if all stages of a pipeline share out embedding and head (compilers that partition one program do)."""

    @property
    def devices(self) -> Numbers:
        """Devices in use."""
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def sequences(self) -> Numbers:
        """Sequences of one step: the global batch."""
        return self.micro_batch * self.accumulation * self.data

    @property
    def zero_stage(self) -> Numbers:
        """ZeRO stage as it works: under a pipeline FSDP keeps weights and gradients whole until the step ends, else it
        would gather each for every micro-batch; it then is ZeRO 1 (torchtitan's default; accumulation without
        communication in arXiv 2304.11277, section 3.3.1)."""
        return np.where((np.asarray(self.sharding) == 3) & (np.asarray(self.pipeline) > 1), 1.0, self.sharding)

    @property
    def replicas(self) -> Numbers:
        """Ranks that work with the same weights, whose gradients are summed: data- and context-parallel ones."""
        return self.data * self.context

    @property
    def shards(self) -> Numbers:
        """Ranks that one copy of sharded state is split over."""
        return np.where(np.asarray(self.shard_group) > 0, self.shard_group, self.replicas)


@dataclass(frozen=True)
class Stages:
    """Layers of the stages that matter: the first holds the most micro-batches, the last the head."""

    first: Numbers
    fullest: Numbers
    fullest_at: Numbers
    """Number of the first stage that is as full, from 0."""
    last: Numbers


def share_out(shape: Shape, layout: Layout) -> Stages:
    """Layers of each stage, in one of four ways.

    Evenly, where layers divide by chunks (Megatron-LM). Else embedding and head take the place of a layer each. With
    `balanced_stages` the head counts as many layers as it has parameters: stages are filled one after another up to
    their share, as nanotron does (1), or the last gets as many layers as leave the slowest stage fastest (2).
    """
    pipeline = layout.pipeline
    even = np.mod(shape.layers, pipeline * layout.interleaving) == 0
    balanced = np.asarray(layout.balanced_stages) == 1
    head = shape.embedding_parameters / (shape.attention_parameters + shape.mlp_parameters)
    share = (shape.layers + np.where(balanced, head, 2.0)) / pipeline
    below = np.floor(share + 1e-9)
    rest = share - below
    uneven = rest > 1e-9
    fullest_at = np.where(uneven, np.ceil(1 / np.maximum(rest, 1e-9) - 1e-9) - 1, 0.0)
    last = np.where(balanced, np.maximum(shape.layers - np.floor(share * (pipeline - 1) + 1e-9), 0.0), below)
    first = np.where(balanced, below, np.maximum(below + uneven - 1, 0.0))
    flat = (even & ~balanced) | (np.asarray(pipeline) == 1)
    each = shape.layers / pipeline
    stages = Stages(
        first=np.where(flat, each, first),
        fullest=np.where(flat, each, np.minimum(below + uneven, shape.layers)),
        fullest_at=np.where(flat, 0.0, np.minimum(fullest_at, pipeline - 1)),
        last=np.where(flat, each, last),
    )
    by_hand = (np.asarray(layout.balanced_stages) == 2) & (np.asarray(pipeline) > 1)
    return _shorter_last(shape, pipeline, head, stages, by_hand) if np.any(by_hand) else stages


def _shorter_last(shape: Shape, pipeline: Numbers, head: Numbers, even: Stages, where: npt.NDArray[np.bool_]) -> Stages:
    """The stages whose slowest is fastest, if the last may have fewer layers and the head costs `head` of them."""
    others = np.maximum(pipeline - 1, 1)
    level = np.floor((shape.layers - others * head) / pipeline)
    found = even
    for more in (1.0, 0.0):
        last = np.clip(level + more, 0.0, shape.layers)
        full = np.ceil((shape.layers - last) / others)
        better = where & (np.maximum(full, last + head) < np.maximum(found.fullest, found.last + head))
        found = Stages(
            first=np.where(better, full, found.first),
            fullest=np.where(better, full, found.fullest),
            fullest_at=np.where(better, 0.0, found.fullest_at),
            last=np.where(better, last, found.last),
        )
    return found
