"""Goals in TOML: read, or refused in one clear line. Known models have the sizes their names say."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tenfold.core.errors import InputError
from tenfold.planner.codesign.goal import (
    Goal,
    ModelSection,
    example_goal_text,
    example_goals,
    given_shape,
    given_tokens,
    load_goal,
    parse_goal,
)
from tenfold.planner.codesign.known import known_model, known_models
from tenfold.planner.cost.layout import Shape
from tests.planner.codesign.page import PAGE, SECTIONS, tables
from tests.planner.tables import rewritten

BUDGET = "aim = 'loss'\n[budget]\ndays = 3\n"
GIVEN = "aim = 'time'\ntokens = 1e9\n[model]\n"
SHAPE = "layers = 4\nwidth = 256\nheads = 4\n"


@pytest.mark.parametrize("name", example_goals())
def test_examples_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "goal.toml"
    path.write_text(example_goal_text(name), encoding="utf-8")
    assert load_goal(path) == parse_goal(example_goal_text(name), name)
    assert example_goal_text(name).startswith("# ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aim = 'los'", "aim = 'los': input should be 'loss', 'time' or 'cost'"),
        ("aim = 'loss'", 'aim = "loss" needs [budget] with days or dollars'),
        ("aim = 'loss'\n[budget]\nunique_tokens = 1e9", "needs [budget] with days or dollars"),
        ("aim = 'loss'\n[budget]\nday = 3", "unknown key 'budget.day'; did you mean 'days'?"),
        ("aim = 'loss'\n[budget]\ndays = 0", "budget.days = 0"),
        ("aim = 'loss'\n[budget]\ndays = inf", "budget.days = inf"),
        ("aim = 'loss'\n[budget]\ndays = '3'", "budget.days = '3'"),
        ("aim = 'time'", 'aim = "time" needs a [model] to train'),
        (BUDGET + "[model]\nname = 'GPT-3'", '[model] belongs to aim = "time" or "cost"'),
        ("tokens = 5\n" + BUDGET, 'tokens belongs to aim = "time" or "cost"'),
        (GIVEN + SHAPE + "[budget]\ndays = 3", '[budget] belongs to aim = "loss"'),
        (GIVEN + "name = 'Llama-3-8'", "unknown model 'Llama-3-8'; did you mean 'Llama-3-8B'"),
        (GIVEN + "name = 'xyzzy'", "unknown model 'xyzzy'; known are nanoGPT-124M, GPT-3-175B"),
        (GIVEN + "layers = 4\nwidth = 256", "model.heads: give it, or the name of a known model"),
        (GIVEN + "layers = 4\nwidth = 250\nheads = 4", "model.heads = 4: does not divide width 250; give head_dim"),
        (GIVEN + SHAPE + "kv_heads = 3", "model.kv_heads = 3: must divide heads 4"),
        (GIVEN + SHAPE + "experts = 8", "model.experts = 8: give expert_width and experts_per_token"),
        (GIVEN + "name = 'Mixtral-8x7B'\ndense_layers = 32", "model.dense_layers = 32: must be fewer than layers 32"),
        ("aim = 'time'\n[model]\n" + SHAPE, "tokens: say how many the model is to be trained on"),
        ("aim = 'time'\n[model]\nname = 'Mixtral-8x7B'", "tokens: say how many the model is to be trained on"),
        (BUDGET + "[batch]\ntokens = 100000", "batch.tokens = 100000: must be a multiple of the context 8192"),
        (BUDGET + "[shapes]\nnarrowest = 200", "narrowest 200.0 must not exceed widest 144.0"),
        (BUDGET + "[shapes]\nkv_groups = []", "shapes.kv_groups"),
        (BUDGET + "[serving]\naccelerator = 'H100'", "serving.milliseconds_per_token"),
        ("aim = ", "not valid TOML"),
    ],
)
def test_bad_goals_get_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_goal(text, "goal.toml")
    assert message in str(caught.value) and str(caught.value).startswith("goal.toml: ")
    assert "\n" not in str(caught.value)


def test_a_missing_goal_names_the_examples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; examples of goals: .*loss-30-days"):
        load_goal(tmp_path / "nothing.toml")
    with pytest.raises(InputError, match=r"no example goal 'x'; there are .*llama3-405b"):
        example_goal_text("x")


keys = st.sampled_from([*Goal.model_fields, "days", "dollars", "name", "layers", "unknown", "milliseconds_per_token"])
values = st.one_of(st.integers(-5, 5), st.floats(), st.booleans(), st.text(max_size=5), st.just([]), st.none())
documents = st.recursive(
    st.dictionaries(keys, values, max_size=4),
    lambda inner: st.dictionaries(keys, st.one_of(values, inner), max_size=5),
    max_leaves=12,
)


@given(documents)
def test_any_document_is_a_goal_or_one_line(document: dict[str, object]) -> None:
    text = "\n".join(toml(document, ""))
    try:
        assert isinstance(parse_goal(text, "goal.toml"), Goal)
    except InputError as error:
        assert "\n" not in str(error)


def toml(document: dict[str, object], path: str) -> list[str]:
    """Tables after plain keys. Text is written so that no quoting is needed."""
    plain = {key: value for key, value in document.items() if not isinstance(value, dict) and value is not None}
    lines = [f"{key} = {written(value)}" for key, value in plain.items()]
    for key, value in document.items():
        if isinstance(value, dict):
            inner = f"{path}.{key}".lstrip(".")
            lines += [f"[{inner}]", *toml(value, inner)]
    return lines


def written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value.encode().hex()}"' if isinstance(value, str) else repr(value)


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("nanoGPT-124M", 0.124, 0.124),
        ("GPT-3-175B", 175, 175),
        ("Llama-3-8B", 8.03, 7.5),
        ("Llama-3-70B", 70.6, 69.5),
        ("Llama-3-405B", 405.9, 403.8),
        ("Mixtral-8x7B", 46.7, 12.8),
        ("DeepSeek-V3", 671, 37),
        ("Qwen3-30B-A3B", 30.5, 3.0),
        ("Qwen3-235B-A22B", 235, 21.5),
    ],
)
def test_known_models_have_their_published_size(name: str, billions: float, active: float) -> None:
    shape = known_model(name).shape
    assert float(shape.parameters) / 1e9 == pytest.approx(billions, rel=0.01)
    assert float(shape.active_parameters) / 1e9 == pytest.approx(active, rel=0.03)


def test_known_models_have_sources_and_are_found_by_alias() -> None:
    assert all(model.source for model in known_models())
    assert len({model.name for model in known_models()}) == len(known_models()) == 9
    assert known_model("gpt-3") == known_model("GPT-3-175B")


def test_a_shape_is_filled_in() -> None:
    shape = given_shape(ModelSection(layers=4, width=512, heads=8))
    assert shape == Shape(4.0, 512.0, 8.0, 8.0, 64.0, 1536.0, 3.0, 128256.0, 8192.0)
    assert given_shape(ModelSection(layers=4, width=512, heads=8, gated=False)).mlp_width == 2048
    longer = given_shape(ModelSection(name="Llama-3-8B", context=32768))
    assert (longer.context, longer.layers) == (32768, 32)


def test_tokens_of_a_known_model_are_its_own_unless_given() -> None:
    own = parse_goal("aim = 'time'\n[model]\nname = 'Llama-3-8B'", "x")
    assert given_tokens(own) == 15e12
    assert given_tokens(parse_goal("aim = 'time'\ntokens = 1e9\n[model]\nname = 'Llama-3-8B'", "x")) == 1e9


def test_examples_are_valid_toml_with_comments_first() -> None:
    assert {tomllib.loads(example_goal_text(name))["aim"] for name in example_goals()} == {"loss", "time", "cost"}


def test_the_page_shows_every_key_model_and_example() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page, tables()) == page, "write it again: python -m tests.planner.codesign.page"
    assert all(f"`{name}`" in page for section in SECTIONS.values() for name in plain_keys(section))


def plain_keys(section: type[BaseModel]) -> set[str]:
    return set(section.model_fields) - {header.strip("[]") for header in SECTIONS}
