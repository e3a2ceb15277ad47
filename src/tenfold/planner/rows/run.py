"""One row of a table of measured runs."""

from dataclasses import dataclass

from tenfold.planner.hardware import Precision


@dataclass(frozen=True)
class Run:
    """A training configuration and, where known, what was measured of it. Docs: docs/planner.md, "Your own rows"."""

    name: str
    """The row's id, or its number in the file."""
    source: str
    release: str
    """Version of the software or of the page, as given in `source_loc`."""
    group: str
    framework: str
    model: str
    hardware: str
    precision: Precision
    layers: float
    width: float
    heads: float
    kv_heads: float
    head_dim: float
    mlp_width: float
    mlp_matrices: float
    vocabulary: float
    context_length: float
    experts: float
    experts_per_token: float
    shared_experts: float
    expert_width: float
    dense_layers: float
    tied_embeddings: float
    devices: float
    tensor: float
    pipeline: float
    interleaving: float
    data: float
    context: float
    expert: float
    micro_batch: float
    accumulation: float
    balanced_stages: float
    sharding: float
    shard_group: float
    sequence_parallel: float
    fused_attention: float
    reductions: float
    gradient_bytes: float
    recomputation: float
    step_seconds: float | None
    """Measured, None if not."""
    memory_bytes: float | None
    """Peak of one device, measured; None if not."""

    @property
    def shape_key(self) -> str:
        """What rows of one model shape share, whatever their vocabulary and context."""
        return f"{self.layers:g}x{self.width:g}x{self.mlp_width:g}x{self.experts:g}"
