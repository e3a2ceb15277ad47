"""[train], [checkpoint], [evaluate]: how the model is trained, saved and judged."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenfold.config.base import Section


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
    """[train]: one run."""

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


class Checkpoint(Section):
    """[checkpoint]: what is saved, where, and how much of it is kept."""

    every: Annotated[int, Field(gt=0)] = 100
    """Steps between checkpoints."""
    keep_last: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints kept."""
    keep_every: Annotated[int, Field(gt=0)] | None = None
    """Also keep every checkpoint whose step is a multiple of this."""
    url: str | None = None
    """Where to save: a folder or any fsspec URL (s3://bucket/run). Default: the campaign directory."""
    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server (s3:// only)."""


class Evaluate(Section):
    """[evaluate]: bits per byte on the holdouts."""

    every: Annotated[int, Field(gt=0)] | None = None
    """Steps between evaluations during training. Default: five times in the run."""
    stride: Annotated[int, Field(gt=0)] | None = None
    """Tokens scored per window; the rest of the window is context. Default: half the context."""
    during_bytes: Annotated[int, Field(gt=0)] = 50_000
    """Bytes of each holdout scored during training; the final evaluation scores all of it."""
