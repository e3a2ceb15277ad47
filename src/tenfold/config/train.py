"""[model], [train], [checkpoint], [evaluate], [ladder]: the transformer, how it is trained, saved and judged, and the
small runs that forecast it."""

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


class Optimizer(Section):
    """[train.optimizer]: AdamW everywhere, or Muon on the hidden matrices and AdamW on the rest."""

    kind: Literal["adamw", "muon"] = "muon"
    """muon orthogonalises the update of each hidden matrix (Newton–Schulz); adamw is fused AdamW."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.004
    """AdamW's peak learning rate at base_width; the parametrisation scales it per tensor."""
    muon_learning_rate: Annotated[float, Field(gt=0)] = 0.02
    """Muon's peak learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of AdamW's first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of AdamW's second moment."""
    epsilon: Annotated[float, Field(gt=0)] = 1e-10
    """Added to AdamW's denominator."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Muon's momentum."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay on matrices."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the global gradient norm to this; 0 for no clipping."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared log-partition penalty (PaLM, arXiv 2204.02311 section 5)."""


class Schedule(Section):
    """[train.schedule]: learning rate over the run."""

    kind: Literal["wsd", "cosine", "linear"] = "wsd"
    """wsd: warm up, stay, decay (1 − sqrt); cosine and linear: warm up, then decay all the way."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the steps spent warming up."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the steps spent decaying (wsd)."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Learning rate at the end, as a share of the peak."""

    @model_validator(mode="after")
    def _fits(self) -> "Schedule":
        if self.kind == "wsd" and self.warmup + self.decay > 1:
            raise ValueError(f"warmup {self.warmup} + decay {self.decay} exceed the whole run")
        return self


class Train(Section):
    """[train]: one run: its length, batch, arithmetic, devices, optimizer and schedule."""

    tokens: Annotated[int, Field(gt=0)] | None = None
    """Training tokens. Default: 20 for every parameter (Chinchilla, arXiv 2203.15556)."""
    batch_tokens: Annotated[int, Field(gt=0)] = 8192
    """Tokens in one optimizer step; a multiple of the context."""
    micro_batch: Annotated[int, Field(gt=0)] | None = None
    """Sequences in one forward pass of one rank. Default: the whole batch on a CPU, 16 on a GPU."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Arithmetic of the matrix products. auto: bf16 where the device has it in hardware."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile. auto: when a compiler is there and the run is long enough to earn it back."""
    threads: Annotated[int, Field(gt=0, le=1024)] | None = None
    """CPU threads of a learner. Default: every core it may use."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How the ranks of one learner under torchrun share the work."""
    log_every: Annotated[int, Field(gt=0)] = 10
    """Steps between console lines."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class CheckpointSettings(Section):
    """[checkpoint]: what is saved, where, and how much of it is kept."""

    every: Annotated[int, Field(gt=0)] = 100
    """Steps between checkpoints."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints kept."""
    keep_every: Annotated[int, Field(gt=0)] | None = None
    """Also keep every checkpoint whose step is a multiple of this."""
    keep_best: str | None = None
    """Name of a holdout: the checkpoint with its lowest score during training is kept too; `tenfold export --best`
    and `tenfold eval --best` take it. It is looked for at every evaluation (`evaluate.every`)."""
    url: str | None = None
    """Where to save: a folder or any fsspec URL (s3://bucket/run). Default: the campaign directory. A password in it
    is written nowhere: one given by `--set` is to be given again to `tenfold eval` and to all that read the model."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server (s3:// only)."""


class Evaluate(Section):
    """[evaluate]: bits per byte on the holdouts."""

    every: Annotated[int, Field(gt=0)] | None = None
    """Steps between evaluations during training. Default: five times in the run."""
    stride: Annotated[float, Field(gt=0)] | None = None
    """Tokens scored per window, the rest of the window is context; below 1, such as 0.75, their share of the context.
    Default: half the context."""
    during_bytes: Annotated[int, Field(gt=0)] = 50_000
    """Bytes of each holdout scored during training; the final evaluation scores all of it."""

    @model_validator(mode="after")
    def _whole_tokens(self) -> "Evaluate":
        if self.stride is not None and self.stride >= 1 and self.stride != int(self.stride):
            raise ValueError(f"stride {self.stride}: give whole tokens, or a share of the context below 1")
        return self


FEWEST_SIZES = 3  # a curve forecast tests itself on the third


class Ladder(Section):
    """[ladder]: small runs with the target's code and data, from which its loss is forecast before it is trained."""

    sizes: Annotated[int, Field(ge=0, le=12)] = 4
    """Model sizes, 3 or more; 0 for no ladder and no forecast."""
    budgets: Annotated[int, Field(ge=2, le=12)] = 5
    """Amounts of compute, evenly spaced in their logarithm from smallest to largest."""
    smallest: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Compute of the smallest rungs, as a share of the target's."""
    largest: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Compute of the largest rungs, as a share of the target's."""
    workers: Annotated[int, Field(gt=0, le=1024)] | None = None
    """Rungs trained at the same time here. Default: one for each GPU, or for every `threads` cores."""
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    """CPU threads of one rung."""
    transfer: bool = True
    """Check on the two smallest sizes that the best learning rate is the same at both."""

    @model_validator(mode="after")
    def _spreads(self) -> "Ladder":
        if self.sizes in range(1, FEWEST_SIZES):
            raise ValueError(f"sizes = {self.sizes}: give {FEWEST_SIZES} or more, or 0 for no ladder")
        if self.smallest >= self.largest:
            raise ValueError(f"smallest {self.smallest} must be below largest {self.largest}")
        return self
