"""campaign.toml: what is wrong is said in one line that names file, key, value and what is allowed."""

import json
import re
from pathlib import Path

import pytest

from tenfold.config import (
    HOW_KEYS,
    Campaign,
    Data,
    Isolation,
    Learners,
    digestible,
    example_names,
    example_values,
    load_campaign,
    parse_campaign,
    render_campaign,
    render_reference,
)
from tenfold.core.errors import InputError

SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
REFERENCE = Path(__file__).parents[2] / "docs" / "configuration.md"
QUICKSTART = render_campaign(example_values("quickstart"), "quickstart")

MISTAKES = [
    ("train.tokenz=3", "--set: unknown key 'train.tokenz'; did you mean 'tokens'?"),
    ("train.tokens=-1", "--set: train.tokens = -1: input should be greater than 0"),
    ("model.depth=0", "--set: model.depth = 0: input should be greater than or equal to 1"),
    (
        "model.width=33",
        "campaign.toml: model: width 33 is not a multiple of head_dim 16; set heads or change one",
    ),
    ("nonsense", "--set 'nonsense': write it as section.key=value"),
    ("train.parallel=tp", "--set: train.parallel = 'tp': input should be 'ddp' or 'fsdp'"),
    (
        "data.sources=[]",
        "--set: data.sources = []: list should have at least 1 item after validation, not 0",
    ),
    ("seed=abc", "--set: seed = 'abc': input should be a valid integer"),
    (
        "train.batch_tokens=1000",
        "campaign.toml: train.batch_tokens 1000 must be a multiple of model.context 256, such as 768 or 1024",
    ),
    (
        "evaluate.stride=512",
        "campaign.toml: evaluate.stride 512 must not exceed model.context 256; set fewer tokens, or a share of the "
        "context such as 0.75",
    ),
    (
        "evaluate.stride=1.5",
        "campaign.toml: evaluate: stride 1.5: give whole tokens, or a share of the context below 1",
    ),
    (
        "train.optimizer.learning_rate=inf",
        "--set: train.optimizer.learning_rate = inf: input should be a finite number",
    ),
    (
        "data.tokenizer.vocab_size=100",
        "--set: data.tokenizer.vocab_size = 100: input should be greater than or equal to 257",
    ),
    (
        'learners.slurm_options=["--time=1:00:00", "--array=3"]',
        "campaign.toml: learners.slurm_options[1] = '--array=3': tenfold itself sets --array; leave it out",
    ),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES)
def test_a_mistake_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_campaign(QUICKSTART, "campaign.toml", [override])
    assert str(caught.value) == message


@pytest.mark.parametrize(("context", "stride"), [(64, 48), (256, 192), (2048, 1536)])
def test_the_quickstart_goes_with_any_context_that_divides_its_batch(context: int, stride: int) -> None:
    assert parse_campaign(QUICKSTART, "campaign.toml", [f"model.context={context}"]).stride == stride


def test_a_stride_in_tokens_is_as_it_was_and_none_is_half_the_context() -> None:
    eight = parse_campaign(QUICKSTART, "campaign.toml", ["evaluate.stride=8"])
    assert (eight.stride, eight.digested_stride) == (8, 8)
    default = Campaign()
    assert (default.stride, default.digested_stride) == (default.model.context // 2, None)


def test_a_new_key_of_data_changes_no_digest_until_it_is_set() -> None:
    class NewIsolation(Isolation):
        newer: int = 3

    NewIsolation.__name__ = "Isolation"
    old, new = Data(), Data.model_construct(**dict(Data()) | {"isolation": NewIsolation()})
    later = {"read", *HOW_KEYS["Data"]}
    values = old.model_dump(
        mode="json", exclude=dict.fromkeys(later, True) | {"sources": {0: {"encoding"}}, "holdouts": {0: {"encoding"}}}
    )
    assert digestible(new) == digestible(old) == values
    assert digestible(NewIsolation(newer=4))["newer"] == 4
    assert digestible(Data(workers=3, engine="dask", scheduler="tcp://there:1", work="s3://there")) == digestible(old)


def test_an_unknown_key_lists_the_allowed_ones_when_none_is_near() -> None:
    with pytest.raises(InputError, match=r"unknown key 'zzz'; allowed here: name, seed, data, model, train"):
        parse_campaign("zzz = 1", "campaign.toml")


def test_broken_toml_names_file_and_line() -> None:
    with pytest.raises(InputError, match=r"^campaign.toml: not valid TOML: .*line 1"):
        parse_campaign("name = \n", "campaign.toml")


def test_a_missing_file_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; make one with `tenfold init"):
        load_campaign(tmp_path)


def test_overrides_are_toml_values_or_plain_text() -> None:
    campaign = parse_campaign("", "x", ["name=plain text", "train.tokens=8_192", "model.tied_embeddings=true"])
    assert (campaign.name, campaign.train.tokens, campaign.model.tied_embeddings) == ("plain text", 8192, True)


@pytest.mark.parametrize("name", example_names())
def test_the_written_file_means_what_the_example_sets(name: str) -> None:
    text = render_campaign(example_values(name), name)
    assert parse_campaign(text, name) == Campaign.model_validate(example_values(name))


@pytest.mark.parametrize("name", example_names())
def test_resolved_examples_match_their_snapshots(name: str) -> None:
    """A refactor that changes a default shows here. Renew on purpose: `make snapshots`."""
    resolved = Campaign.model_validate(example_values(name)).model_dump(mode="json")
    assert resolved == json.loads((SNAPSHOTS / f"{name}.json").read_text())


def test_the_reference_page_is_up_to_date() -> None:
    assert REFERENCE.read_text() == render_reference(), "run `make docs`"


def test_the_section_of_learners_is_found_under_its_former_name(caplog: pytest.LogCaptureFixture) -> None:
    text = "[cluster]\nlearners = 4\nquorum = 3\n[chaos]\nper_hour = 2"
    campaign = parse_campaign(text, "old/campaign.toml", ("cluster.learners=5", "learners.inner_steps=6"))
    assert (campaign.learners.count, campaign.learners.quorum, campaign.learners.inner_steps) == (5, 3, 6)
    assert "old/campaign.toml: [cluster] is called [learners] now" in caplog.text
    assert Campaign.model_validate({"cluster": {"learners": 4, "grace": 1.5}}).learners == Learners(count=4, grace=1.5)


@pytest.mark.parametrize(
    ("text", "sets", "said"),
    [
        ("[cluster]\nlearners = -1", (), "c.toml: learners.count = -1: input should be greater than or equal to 0"),
        ("", ("cluster.learners=-1",), "--set: learners.count = -1: input should be greater than or equal to 0"),
        ("[cluster]\nlerners = 2", (), "c.toml: unknown key 'learners.lerners'"),
        ("cluster = 3", (), "c.toml: unknown key 'cluster'"),
    ],
)
def test_a_former_name_with_a_wrong_value_is_refused_by_the_present_one(
    text: str, sets: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        parse_campaign(text, "c.toml", sets)
