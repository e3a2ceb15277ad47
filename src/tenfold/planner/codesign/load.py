"""From a goal's TOML file to a Goal and its shape, or to one clear line about what is wrong with it."""

from dataclasses import fields, replace
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from tenfold.config.base import explain, parse_document, read_text
from tenfold.core.errors import InputError
from tenfold.planner.codesign.goal import Goal, ModelSection
from tenfold.planner.codesign.known import known_model
from tenfold.planner.cost.shape import Shape

USUAL_VOCABULARY, USUAL_CONTEXT = 128256, 8192
MLP_MULTIPLE = 256


def load_goal(path: Path) -> Goal:
    """Read a goal's TOML file. Raises InputError naming the file, the key, the value and what is allowed."""
    text = read_text(path, f"examples of goals: {', '.join(example_goals())}")
    return parse_goal(text, str(path))


def parse_goal(text: str, where: str) -> Goal:
    """As `load_goal`, from TOML `text` called `where` in messages. Raises InputError."""
    try:
        goal = Goal.model_validate(parse_document(text, where))
    except ValidationError as error:
        raise InputError(explain(error, where, root=Goal)) from None
    try:
        check(goal)
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


def check(goal: Goal) -> None:
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
