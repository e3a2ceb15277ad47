"""The typed schema of a goal's TOML file. Every unit is in the name of its key."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tenfold.config.base import Section
from tenfold.planner.hardware import Precision

Count = Annotated[int, Field(gt=0, le=10**9)]
Positive = Annotated[float, Field(gt=1e-9, le=1e18)]
Aim = Literal["loss", "time", "cost"]


class ModelSection(Section):
    """[model]: a given model, by the name of a known one, or by its shape."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """A known model, such as "Llama-3-8B". Keys given beside it replace its own."""
    layers: Count | None = None
    """Layers."""
    width: Count | None = None
    """Residual width."""
    heads: Count | None = None
    """Query heads."""
    kv_heads: Count | None = None
    """Key and value heads; must divide `heads`. Default: as many as `heads`."""
    head_dim: Count | None = None
    """Width of one head. Default: width / heads."""
    mlp_width: Count | None = None
    """Hidden width of a dense MLP. Default: 8/3 × width if gated, else 4 × width, in multiples of 256."""
    gated: bool | None = None
    """Three matrices in an MLP (SwiGLU) rather than two. Default: true."""
    vocabulary: Count | None = None
    """Tokens of the vocabulary. Default: 128256, that of Llama 3."""
    context: Count | None = None
    """Tokens of one training sequence. Default: 8192."""
    experts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Routed experts of a layer. Default: 0, a dense model."""
    experts_per_token: Count | None = None
    """Routed experts that a token is sent to. Needed with experts."""
    shared_experts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Experts that every token is sent to. Default: 0."""
    expert_width: Count | None = None
    """Hidden width of one expert. Needed with experts."""
    dense_layers: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Leading layers without experts. Default: 0."""
    tied_embeddings: bool | None = None
    """One matrix for input and output embeddings. Default: false."""


class BudgetSection(Section):
    """[budget]: what may be spent; the smaller of days and dollars counts."""

    days: Positive | None = None
    """Days on the cluster, failures included. Give this or dollars, or both."""
    dollars: Positive | None = None
    """Money, at the cluster's price_dollars_per_device_hour. Parts of the cluster are then tried too."""
    unique_tokens: Positive | None = None
    """Distinct tokens there are; more than that is repeated, which is worth less each time. Default: no limit."""


class BatchSection(Section):
    """[batch]: the global batch."""

    tokens: Count | None = None
    """Tokens of one step; a multiple of the context. Default: searched, with what large batches cost."""
    critical_tokens: Positive | None = None
    """Batch at which twice the tokens are needed, as measured for this run. Default: 5 × 22.91 (D / 10^6)^0.47
    sequences of 512 tokens for D training tokens (Zhang et al., arXiv 2410.21676, whose batch costs 20% more)."""


class ServingSection(Section):
    """[serving]: how fast the finished model must answer."""

    accelerator: Annotated[str, Field(min_length=1)]
    """What serves it, by a name of docs/hardware.md."""
    devices: Count = 8
    """Devices that one copy is split over (tensor parallel), in one scale-up domain."""
    batch: Count = 1
    """Sequences answered at once."""
    context: Count = 8192
    """Tokens each of them has read and written so far."""
    milliseconds_per_token: Positive
    """The longest that one more token of every sequence may take."""
    weight_bytes: Annotated[float, Field(ge=0.25, le=4)] = 2.0
    """Bytes of one weight as served: 2 for bf16, 1 for fp8."""


class LawSection(Section):
    """[law]: what loss is forecast by."""

    table: Annotated[str, Field(min_length=1)] | None = None
    """A table of your own ladder (columns N, D, loss), to which a law is fitted. Default: Chinchilla's law as fitted
    again by Besiroglu et al. (arXiv 2404.10102), and Muennighoff et al. (arXiv 2305.16264) for repeated data."""


class ShapesSection(Section):
    """[shapes]: which models are tried when loss is the aim. Dense ones: for experts there is no law yet."""

    vocabulary: Count = 128256
    """Tokens of the vocabulary."""
    context: Count = 8192
    """Tokens of one training sequence."""
    head_dims: Annotated[list[Annotated[int, Field(ge=8, le=1024)]], Field(min_length=1)] = [64, 128]  # noqa: RUF012 (pydantic copies defaults)
    """Widths of one head."""
    narrowest: Annotated[float, Field(gt=0)] = 64.0
    """Smallest width over layers. It changes loss only slightly (Kaplan et al., arXiv 2001.08361, section 3.1), which
    the laws leave out; the range stays around what large models have (Llama 3: 102 to 130)."""
    widest: Annotated[float, Field(gt=0)] = 144.0
    """Largest width over layers."""
    kv_groups: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=1)] = [1, 4, 8]  # noqa: RUF012
    """Query heads that share one head of keys and values."""
    mlp_ratios: Annotated[list[Annotated[float, Field(ge=0.5, le=16)]], Field(min_length=1)] = [2.6875, 3.5, 4.0]  # noqa: RUF012
    """Hidden width of the gated MLP over the model's width."""
    tied_embeddings: bool = False
    """One matrix for input and output embeddings."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "ShapesSection":
        if self.narrowest > self.widest:
            raise ValueError(f"narrowest {self.narrowest} must not exceed widest {self.widest}")
        return self


class Goal(Section):
    """A goal: lowest loss for a budget, or lowest time or cost for a given model."""

    aim: Aim
    """loss: lowest forecast loss for [budget]; time, cost: the least of it that trains [model] on `tokens`."""
    tokens: Positive | None = None
    """Training tokens for a given model, at batches far below the critical one. Default: what the known model of this
    name was trained on."""
    precision: Precision = "bf16"
    """Of matrix products; the accelerator needs a published peak in it."""
    framework: str = "megatron-core"
    """Whose measured runs the forecast of speed rests on; empty for the mean of all."""
    goodput_percent: Annotated[float, Field(gt=0, le=100)] = 90.0
    """Share of the time that trains, after failures and restarts: above 90 for Llama 3 405B (arXiv 2407.21783, section
    3.3.4)."""
    most_searches: Annotated[int, Field(ge=1, le=10**6)] = 200
    """Searches over all layouts, at most. One takes about 0.1 s for 1,024 devices."""
    model: ModelSection | None = None
    budget: BudgetSection | None = None
    batch: BatchSection = BatchSection()
    serving: ServingSection | None = None
    law: LawSection = LawSection()
    shapes: ShapesSection = ShapesSection()

    @model_validator(mode="after")
    def _is_complete(self) -> "Goal":
        if self.aim == "loss":
            self._check_budget()
        elif self.model is None:
            raise ValueError(f'aim = "{self.aim}" needs a [model] to train')
        elif self.budget is not None:
            raise ValueError(f'[budget] belongs to aim = "loss"; aim = "{self.aim}" looks for the least there is')
        return self

    def _check_budget(self) -> None:
        if self.budget is None or (self.budget.days is None and self.budget.dollars is None):
            raise ValueError('aim = "loss" needs [budget] with days or dollars')
        if self.model is not None or self.tokens is not None:
            given = "[model]" if self.model is not None else "tokens"
            raise ValueError(f'{given} belongs to aim = "time" or "cost"; aim = "loss" chooses it')
