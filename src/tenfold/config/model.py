"""[model]: the shape of the transformer. `depth` is the one dial; the rest follows unless given."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenfold.config.base import Section

HEAD_DIM = 32


class Model(Section):
    """[model]: decoder-only transformer (RMSNorm, RoPE, grouped-query attention; by default QK-norm and SwiGLU)."""

    depth: Annotated[int, Field(ge=1)] = 6
    """Number of layers."""
    width: Annotated[int, Field(ge=16)] | None = None
    """Residual width. Default: 32 × depth, the aspect ratio this size of model likes."""
    head_dim: Annotated[int, Field(ge=8, multiple_of=2)] = HEAD_DIM
    """Width of one attention head; even, since RoPE rotates pairs."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Query heads. Default: width / head_dim."""
    kv_heads: Annotated[int, Field(ge=1)] | None = None
    """Key and value heads; must divide `heads`. Default: as many as `heads`."""
    mlp_width: Annotated[int, Field(ge=16)] | None = None
    """Hidden width of the MLP. Default: for swiglu 8/3 × width, rounded up to a multiple of 64; for gelu 3/2 of that,
    which is as many parameters."""
    mlp: Literal["swiglu", "gelu"] = "swiglu"
    """swiglu: gated, three matrices; gelu: plain, two matrices (such a model cannot be exported)."""
    qk_norm: bool = True
    """Normalise queries and keys of each head."""
    context: Annotated[int, Field(ge=8)] = 256
    """Tokens of context."""
    tied_embeddings: bool = False
    """Use one matrix for input and output embeddings."""
    rope_base: Annotated[float, Field(gt=1)] = 10_000.0
    """Base of the rotary frequencies."""
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-6
    """Added to the mean square in RMSNorm."""
    base_width: Annotated[int, Field(ge=16)] = 128
    """Width at which the learning rate was tuned; the parametrisation scales from it (CompleteP)."""
    base_depth: Annotated[int, Field(ge=1)] = 4
    """Depth at which the learning rate was tuned."""

    @model_validator(mode="after")
    def _shape_divides(self) -> "Model":
        if self.heads is None and self.resolved_width % self.head_dim:
            raise ValueError(
                f"width {self.resolved_width} is not a multiple of head_dim {self.head_dim}; set heads or change one"
            )
        if self.resolved_heads % self.resolved_kv_heads:
            raise ValueError(f"kv_heads {self.kv_heads} must divide heads {self.resolved_heads}")
        return self

    @property
    def resolved_width(self) -> int:
        """Residual width in use."""
        return self.width or 32 * self.depth

    @property
    def resolved_heads(self) -> int:
        """Query heads in use."""
        return self.heads or self.resolved_width // self.head_dim

    @property
    def resolved_kv_heads(self) -> int:
        """Key/value heads in use."""
        return self.kv_heads or self.resolved_heads

    @property
    def resolved_mlp_width(self) -> int:
        """MLP hidden width in use. Both kinds of MLP have the same number of parameters by default."""
        gated = -(-8 * self.resolved_width // (3 * 64)) * 64
        return self.mlp_width or (gated if self.mlp == "swiglu" else gated * 3 // 2)
