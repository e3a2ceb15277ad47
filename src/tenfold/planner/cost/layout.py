"""How a training step is laid out over devices."""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.cost.numbers import Numbers

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
    """1 if stages are filled by what layers and head cost; 0 if layers are shared out evenly."""
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

    @property
    def devices(self) -> Numbers:
        """Devices in use."""
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def sequences(self) -> Numbers:
        """Sequences of one step: the global batch."""
        return self.micro_batch * self.accumulation * self.data

    @property
    def replicas(self) -> Numbers:
        """Ranks that work with the same weights, whose gradients are summed: data- and context-parallel ones."""
        return self.data * self.context

    @property
    def shards(self) -> Numbers:
        """Ranks that one copy of sharded state is split over."""
        return np.where(np.asarray(self.shard_group) > 0, self.shard_group, self.replicas)
