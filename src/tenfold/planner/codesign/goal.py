"""A goal's TOML file: its typed schema, the known models it may name, and the shape it describes.

Every unit is in the name of its key. Known models are in models.csv, each with its source.
"""

from dataclasses import fields, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from tenfold.config import Section, explain, parse_document, read_text
from tenfold.core import InputError
from tenfold.planner.codesign.known import KnownModel, known_model
from tenfold.planner.cost.layout import Shape
from tenfold.planner.hardware.accelerator import Precision

_Count = Annotated[int, Field(gt=0, le=10**9)]
_Layers = Annotated[int, Field(gt=0, le=10_000)]
_Width = Annotated[int, Field(gt=0, le=10_000_000)]
_Heads = Annotated[int, Field(gt=0, le=100_000)]
_Positive = Annotated[float, Field(gt=1e-9, le=1e18)]
Aim = Literal["loss", "time", "cost"]


class ModelSection(Section):
    """[model]: a given model, by the name of a known one, or by its shape."""

    name: Annotated[str, Field(min_length=1)] | None = None
    """A known model, such as "Llama-3-8B". Keys given beside it replace its own."""
    layers: _Layers | None = None
    """Layers."""
    width: _Width | None = None
    """Residual width."""
    heads: _Heads | None = None
    """Query heads."""
    kv_heads: _Heads | None = None
    """Key and value heads; must divide `heads`. Default: as many as `heads`."""
    head_dim: _Heads | None = None
    """Width of one head. Default: width / heads."""
    mlp_width: _Width | None = None
    """Hidden width of a dense MLP. Default: 8/3 × width if gated, else 4 × width, in multiples of 256."""
    gated: bool | None = None
    """Three matrices in an MLP (SwiGLU) rather than two. Default: true."""
    vocabulary: _Count | None = None
    """Tokens of the vocabulary. Default: 128256, that of Llama 3."""
    context: _Count | None = None
    """Tokens of one training sequence. Default: 8192."""
    experts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Routed experts of a layer. Default: 0, a dense model."""
    experts_per_token: _Count | None = None
    """Routed experts that a token is sent to. Needed with experts."""
    shared_experts: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Experts that every token is sent to. Default: 0."""
    expert_width: _Width | None = None
    """Hidden width of one expert. Needed with experts."""
    dense_layers: Annotated[int, Field(ge=0, le=10**6)] | None = None
    """Leading layers without experts. Default: 0."""
    tied_embeddings: bool | None = None
    """One matrix for input and output embeddings. Default: false."""


class BudgetSection(Section):
    """[budget]: what may be spent; the smaller of days and dollars counts."""

    days: _Positive | None = None
    """Days on the cluster, failures included. Give this or dollars, or both."""
    dollars: _Positive | None = None
    """Money, at the cluster's price_dollars_per_device_hour. Parts of the cluster are then tried too."""
    unique_tokens: _Positive | None = None
    """Distinct tokens there are; more than that is repeated, which is worth less each time. Default: no limit."""


class BatchSection(Section):
    """[batch]: the global batch."""

    tokens: _Count | None = None
    """Tokens of one step; a multiple of the context. Default: searched, with what large batches cost."""
    critical_tokens: _Positive | None = None
    """Batch at which twice the tokens are needed, as measured for this run. Default: 5 × 22.91 (D / 10^6)^0.47
    sequences of 512 tokens for D training tokens (Zhang et al., arXiv 2410.21676, whose batch costs 20% more)."""


class ServingSection(Section):
    """[serving]: how fast the finished model must answer."""

    accelerator: Annotated[str, Field(min_length=1)]
    """What serves it, by a name of docs/hardware.md."""
    devices: _Count = 8
    """Devices that one copy is split over (tensor parallel), in one scale-up domain."""
    batch: _Count = 1
    """Sequences answered at once."""
    context: _Count = 8192
    """Tokens each of them has read and written so far."""
    milliseconds_per_token: _Positive
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

    vocabulary: _Count = 128256
    """Tokens of the vocabulary."""
    context: _Count = 8192
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
    tokens: _Positive | None = None
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


USUAL_VOCABULARY, USUAL_CONTEXT = 128256, 8192
MLP_MULTIPLE = 256


class ModelFile(Section):
    """A model of one's own, to be planned for."""

    tokens: _Positive | None = None
    """It is to be trained on. Default: what the known model of its name was trained on."""
    model: ModelSection


def load_model(path: Path) -> KnownModel:
    """Read a model's TOML file. Raises InputError naming the file, the key, the value and what is allowed."""
    document = parse_document(read_text(path, "a model is a TOML file with [model], as in a goal"), str(path))
    try:
        given = ModelFile.model_validate(document)
        shape = given_shape(given.model)
    except ValidationError as error:
        raise InputError(explain(error, str(path), root=ModelFile)) from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    known = known_model(given.model.name).tokens if given.model.name else 0.0
    return KnownModel(given.model.name or path.stem, shape, given.tokens or known, str(path))


def load_goal(path: Path) -> Goal:
    """Read a goal's TOML file, or an example by name.

    Raises InputError naming the file, the key, the value and what is allowed.
    """
    if str(path) in example_goals() and not path.exists():
        return parse_goal(example_goal_text(str(path)), f"{path}.toml")
    text = read_text(path, f"examples of goals: {', '.join(example_goals())}")
    return parse_goal(text, str(path))


def parse_goal(text: str, where: str) -> Goal:
    """The goal in TOML `text`, called `where` in messages. Raises InputError as `load_goal` does."""
    try:
        goal = Goal.model_validate(parse_document(text, where))
    except ValidationError as error:
        raise InputError(explain(error, where, root=Goal)) from None
    try:
        check_goal(goal)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return goal


def example_goals() -> list[str]:
    """Names of the goals the package ships."""
    folder = resources.files("tenfold.planner.codesign") / "examples"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def example_goal_text(name: str) -> str:
    """The commented TOML of a shipped goal. Raises InputError with the names there are."""
    if name not in example_goals():
        raise InputError(f"no example goal {name!r}; there are {', '.join(example_goals())}")
    return (resources.files("tenfold.planner.codesign") / "examples" / f"{name}.toml").read_text(encoding="utf-8")


def check_goal(goal: Goal) -> None:
    """Raises InputError where sections do not go together."""
    if goal.model is not None:
        context = int(given_shape(goal.model).context)
        given_tokens(goal)
    else:
        context = goal.shapes.context
    batch = goal.batch.tokens
    if batch is not None and batch % context:
        raise InputError(f"batch.tokens = {batch}: must be a multiple of the context {context}")


def given_tokens(goal: Goal) -> float:
    """Training tokens of a given model. Raises InputError where neither the goal nor the table says."""
    if goal.tokens is not None:
        return goal.tokens
    name = goal.model.name if goal.model else None
    published = known_model(name).tokens if name else 0.0
    if not published:
        raise InputError("tokens: say how many the model is to be trained on")
    return published


def given_shape(section: ModelSection) -> Shape:
    """The shape that [model] describes. Raises InputError for an unknown name or what does not divide."""
    given = section.model_dump(exclude_none=True, exclude={"name"})
    values = {key: float(value) for key, value in given.items() if key != "gated"}
    if section.gated is not None:
        values["mlp_matrices"] = 3.0 if section.gated else 2.0
    shape = replace(known_model(section.name).shape, **values) if section.name else _from_keys(values)
    _check_shape(shape)
    return shape


def _from_keys(values: dict[str, float]) -> Shape:
    for key in ("layers", "width", "heads"):
        if key not in values:
            raise InputError(f"model.{key}: give it, or the name of a known model")
    width, heads = values["width"], values["heads"]
    if "head_dim" not in values and width % heads:
        raise InputError(f"model.heads = {heads:g}: does not divide width {width:g}; give head_dim")
    gated = values.get("mlp_matrices", 3.0) == 3
    usual = {
        "kv_heads": heads,
        "head_dim": width // heads,
        "mlp_width": in_multiples(width * (8 / 3 if gated else 4), MLP_MULTIPLE),
        "mlp_matrices": 3.0,
        "vocabulary": float(USUAL_VOCABULARY),
        "context": float(USUAL_CONTEXT),
    }
    return Shape(**{each.name: (usual | values).get(each.name, 0.0) for each in fields(Shape)})


def in_multiples(value: float, of: int) -> float:
    """The multiple of `of` next above `value`."""
    return float(-(-value // of) * of)


def _check_shape(shape: Shape) -> None:
    if shape.heads % shape.kv_heads:
        raise InputError(f"model.kv_heads = {shape.kv_heads:g}: must divide heads {shape.heads:g}")
    if not shape.experts:
        return
    if not shape.expert_width or not 1 <= shape.experts_per_token <= shape.experts:
        raise InputError(
            f"model.experts = {shape.experts:g}: give expert_width and experts_per_token, at most that many"
        )
    if shape.dense_layers >= shape.layers:
        raise InputError(f"model.dense_layers = {shape.dense_layers:g}: must be fewer than layers {shape.layers:g}")
