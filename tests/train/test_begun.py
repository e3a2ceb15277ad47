"""A finished model is scored and exported as it was trained, with its own settings and on its own corpus."""

import json
from pathlib import Path

import pytest

from tenfold.campaign import run_campaign, run_data, run_evaluate, run_export, run_report, run_train
from tenfold.core.errors import InputError
from tests.campaign.small import copy_of, finished_campaign
from tests.data.texts import library_texts, write_texts

SETTINGS = ("model.depth=1", "train.tokens=5120", "checkpoint.url=elsewhere", "evaluate.stride=8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_campaign(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    return copy_of(finished, tmp_path / "mine")


def digest_of(directory: Path) -> str:
    return str(json.loads((directory / "train.json").read_text())["weights_digest"])


def add_text(directory: Path) -> None:
    write_texts(directory / "texts" / "more", library_texts(60, max_bytes=12_000)[30:])


def edit(directory: Path, old: str, new: str) -> None:
    path = directory / "campaign.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_what_was_set_for_training_need_not_be_said_again(mine: Path) -> None:
    (mine / "train.json").unlink()
    run_train(mine, SETTINGS)
    assert run_evaluate(mine, ())["weights_digest"] == digest_of(mine)
    run_export(mine, None, ())
    assert json.loads((mine / "export" / "config.json").read_text())["num_hidden_layers"] == 1
    run_report(mine, ())
    with pytest.raises(InputError, match=r"model.depth: 1 → 2"):
        run_export(mine, mine / "other", ("model.depth=2",))


def test_a_changed_file_does_not_take_the_model_and_is_said(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(mine, "depth = 2\nwidth", "depth = 3\nwidth")
    edit(mine, "fraction = 0.1", "fraction = 0.2")
    run_export(mine, None, ())
    assert json.loads((mine / "export" / "config.json").read_text())["num_hidden_layers"] == 2
    said = capsys.readouterr().err
    assert "campaign.toml has changed since the training (model.depth: 2 → 3)" in said
    assert "[data] has changed since the training" in said
    with pytest.raises(InputError, match=r"--set data.shard_tokens=2048: not what the model was trained on"):
        run_evaluate(mine, ("data.shard_tokens=2048",))


def test_more_text_is_said_before_an_old_result_is_given_again(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = digest_of(mine)
    add_text(mine)
    assert run_campaign(mine, ())["weights_digest"] == digest
    said = capsys.readouterr().err
    assert "the text has changed since the corpus was built, 30 files of" in said and "60 files of" in said
    assert f"`tenfold init NEW --like {mine}`" in said


def test_a_new_corpus_leaves_the_finished_model_its_own(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest, scores = digest_of(mine), run_evaluate(mine, ())["holdouts"]
    add_text(mine)
    before = json.loads((mine / "data" / "manifest.json").read_text())
    assert run_data(mine, ())["bytes"] > sum(source["bytes"] for source in before["sources"])
    (kept,) = (mine / "corpora").iterdir()
    assert f"kept as {kept}" in capsys.readouterr().err
    (mine / "evaluation.json").unlink()
    assert run_evaluate(mine, ())["holdouts"] == scores
    run_export(mine, None, ())
    assert run_campaign(mine, ())["weights_digest"] == digest
    assert run_train(mine, ())["weights_digest"] == digest  # type: ignore[index]
    assert run_data(mine, ())["bytes"] > sum(source["bytes"] for source in before["sources"]), "the newest stays"


def test_an_interrupted_run_goes_on_with_the_corpus_it_began_with(mine: Path) -> None:
    digest = digest_of(mine)
    (mine / "train.json").unlink()
    (mine / "checkpoints" / "step-00000040").rename(mine / "aside")
    add_text(mine)
    run_data(mine, ())
    assert run_campaign(mine, ())["weights_digest"] == digest


def test_a_run_on_other_data_is_refused_before_the_ladder_is_trained(mine: Path) -> None:
    edit(mine, "fraction = 0.1", "fraction = 0.2")
    ladder = ("ladder.sizes=3", "ladder.smallest=0.05", "ladder.largest=0.4")
    with pytest.raises(InputError, match=r"step-00000040: trained on another corpus than .*`tenfold init NEW --like"):
        run_campaign(mine, ladder)
    with pytest.raises(InputError, match=r"step-00000040: trained with another configuration \(train.tokens"):
        run_campaign(mine, (*ladder, "data.holdouts=[]", "train.tokens=5120"))
    assert not (mine / "ladder").exists()
