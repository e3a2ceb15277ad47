"""CHANGE.toml: read in every way it may be written, refused with file, key and what is allowed."""

from pathlib import Path

import pytest

from tenfold.config import Campaign, Change, changed_campaign, example_values, load_change
from tenfold.core.errors import InputError

QUICKSTART = Campaign.model_validate(example_values("quickstart"))


def written(folder: Path, text: str, name: str = "tied.toml") -> Change:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_change(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    change = written(
        tmp_path,
        'name = "both"\ndescription = "tied and without decay"\nstack = ["first", "second"]\n'
        '[set]\n"model.tied_embeddings" = true\n',
        "any name.toml",
    )
    assert (change.name, change.description, change.stack) == ("both", "tied and without decay", ("first", "second"))
    assert change.set == {"model.tied_embeddings": True}


@pytest.mark.parametrize(
    "text",
    [
        '[set]\n"train.optimizer.beta1" = 0.8\n"seed" = 7',
        "[set]\ntrain.optimizer.beta1 = 0.8\nseed = 7",
        "[set]\nseed = 7\n[set.train.optimizer]\nbeta1 = 0.8",
        '[set]\nseed = 7\n"train.optimizer" = {beta1 = 0.8}',
    ],
)
def test_keys_are_dotted_or_nested(tmp_path: Path, text: str) -> None:
    changed = changed_campaign(QUICKSTART, written(tmp_path, text))
    assert (changed.seed, changed.train.optimizer.beta1) == (7, 0.8)
    same = {"seed": QUICKSTART.seed, "train": QUICKSTART.train}
    assert changed.model_copy(update=same).model_dump() == QUICKSTART.model_dump()


def test_the_name_is_the_files_unless_given(tmp_path: Path) -> None:
    assert written(tmp_path, "[set]\nseed = 7", "other-seed.toml").name == "other-seed"
    with pytest.raises(InputError, match=r"Other Seed\.toml: the file's name 'Other Seed' cannot be the change's: set"):
        written(tmp_path, "[set]\nseed = 7", "Other Seed.toml")


def test_sources_of_every_kind_survive_a_change(tmp_path: Path) -> None:
    data = {"sources": [{"kind": "jsonl", "paths": ["a.jsonl"], "text_key": "body"}]}
    campaign = Campaign.model_validate({"data": data})
    assert changed_campaign(campaign, written(tmp_path, "[set]\nseed = 7")).data == campaign.data


def test_a_stack_alone_gives_the_campaign_back(tmp_path: Path) -> None:
    change = written(tmp_path, 'stack = ["first", "second"]')
    assert changed_campaign(QUICKSTART, change).model_dump() == QUICKSTART.model_dump()


UNREADABLE = [
    ("", "[set] is empty; set a campaign.toml key, or stack two changes or more"),
    ("[set.model]", "[set] is empty; set a campaign.toml key, or stack two changes or more"),
    ('stack = ["one"]', "[set] is empty; set a campaign.toml key, or stack two changes or more"),
    ("sets = 1\n[set]\nseed = 7", "unknown key 'sets'; did you mean 'set'?"),
    ("zzz = 1\n[set]\nseed = 7", "unknown key 'zzz'; allowed here: name, description, stack, set"),
    ('name = "Gelu"\n[set]\nseed = 7', "name = 'Gelu': string should match pattern '^[a-z0-9][a-z0-9-]*$'"),
    ("description = 3\n[set]\nseed = 7", "description = 3: input should be a valid string"),
    ("set = 3", "set = 3: input should be a valid dictionary"),
    ('stack = ["No"]\n[set]\nseed = 7', "stack: 'No' is no name of a change (lower-case letters, digits and -)"),
    ('stack = ["tied"]\n[set]\nseed = 7', "stack: 'tied' is in it twice or is this change itself; keep one"),
    ('stack = ["a", "a"]', "stack: 'a' is in it twice or is this change itself; keep one"),
    ('[set]\n"model..depth" = 1', "[set] 'model..depth': write it as section.key"),
    (
        '[set]\nmodel.context = 128\n"model.context" = 256',
        "[set] 'model.context': set twice, also as 'model.context'; keep one",
    ),
    (
        '[set]\n"train.optimizer" = 3\n"train.optimizer.beta1" = 0.8',
        "[set] 'train.optimizer.beta1': set twice, also as 'train.optimizer'; keep one",
    ),
]


@pytest.mark.parametrize(("text", "message"), UNREADABLE)
def test_a_mistake_in_the_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        written(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'tied.toml'}: {message}"


@pytest.mark.parametrize("key", ["model.depth", "model.width", "model.heads", "model.kv_heads", "model.mlp_width"])
def test_shape_is_the_ladders(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"tied\.toml: \[set\] {key}: the ladder sets it for every rung"):
        written(tmp_path, f'[set]\n"{key}" = 4')


@pytest.mark.parametrize("key", ["train.tokens", "train.batch_tokens"])
def test_tokens_are_the_ladders(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"\[set\] {key}: the ladder sets it"):
        written(tmp_path, f"[set]\n{key} = 8192")


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "data.shard_tokens",
        "checkpoint.every",
        "evaluate.stride",
        "ladder.seeds",
        "train.log_every",
        "train.device",
        "train.threads",
    ],
)
def test_what_is_no_part_of_a_small_run_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InputError, match=rf"\[set\] {key}: it is no part of what a small run learns"):
        written(tmp_path, f"[set]\n{key} = 1")


UNFIT = [
    ("model.tied_embedding = true", "[set]: unknown key 'model.tied_embedding'; did you mean 'tied_embeddings'?"),
    ("modle.context = 8", "[set]: unknown key 'modle'; did you mean 'model'?"),
    ("train.optimizer.beta1 = 2.0", "[set]: train.optimizer.beta1 = 2.0: input should be less than 1"),
    ('seed = "7"', "[set]: seed = '7': input should be a valid integer"),
    ("seed.x = 7", "[set] seed.x: 'seed' is not a section"),
    (
        "model.context = 24",
        "[set]: train.batch_tokens 8192 must be a multiple of model.context 24, such as 8184 or 8208",
    ),
    ("model.tied_embeddings = false", "[set] model.tied_embeddings: the campaign has these values already"),
]


@pytest.mark.parametrize(("text", "message"), UNFIT)
def test_a_change_that_does_not_fit_the_campaign_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    campaign = Campaign.model_validate({"seed": 1, "train": {"batch_tokens": 8192}})
    with pytest.raises(InputError) as caught:
        changed_campaign(campaign, written(tmp_path, f"[set]\n{text}"))
    assert str(caught.value) == f"{tmp_path / 'tied.toml'}: {message}"


def test_a_missing_file_and_broken_toml_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; write one with a table"):
        load_change(tmp_path / "none.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_change(tmp_path)
    with pytest.raises(InputError, match=r"tied\.toml: not valid TOML: Expected"):
        written(tmp_path, "[set")
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    with pytest.raises(InputError, match="cannot be read"):
        load_change(tmp_path / "latin.toml")
