"""What is said of a corpus before training, and its samples shown."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tenfold.campaign import run_campaign, run_data, run_show
from tenfold.campaign.data import audit_data
from tenfold.core.errors import InputError, TenfoldError
from tenfold.data import Manifest, load_holdout, load_tokenizer, open_workspace
from tenfold.data.corpus import TokenFile
from tenfold.data.paths import walk
from tests.campaign.small import TOML, new_campaign
from tests.data.test_auditing import append_to_shard, older_corpus
from tests.data.texts import library_texts, write_texts

TWO_SOURCES = """sources = [
  { kind = "files", name = "much", paths = ["texts"], weight = 1.0 },
  { kind = "files", name = "little", paths = ["notes"], weight = 1.0 },
]"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = new_campaign(tmp_path_factory.mktemp("mixed"))
    write_texts(directory / "notes", library_texts(60, max_bytes=6_000)[-1:])
    toml = TOML.replace('sources = [{ kind = "files", paths = ["texts"] }]', TWO_SOURCES)
    (directory / "campaign.toml").write_text(toml)
    run_data(directory, ())
    return directory


def test_epochs_of_each_source_are_said_before_and_during_training(
    mixed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_campaign(mixed, ("train.tokens=81920", "train.log_every=320"))
    manifest = Manifest.load(mixed / "data")
    rows = {source.name: (source.tokens - 1) // 32 for source in manifest.sources}
    half = 81920 / 32 / 2
    said = capsys.readouterr().err
    assert "(much) – " in said and half / rows["little"] > 10
    before, during = [line for line in said.splitlines() if "(little) epochs" in line]
    assert "81,920 tokens to train on" in before and "step 320/320" in during
    shown = float(before.split(" – ")[1].split(" ")[0])
    assert shown == pytest.approx(half / rows["little"], rel=0.05)


def test_samples_are_shown_as_the_run_numbers_them(mixed: Path) -> None:
    (first,), both = run_show(mixed, "5", ())["samples"], run_show(mixed, "5-6", ())["samples"]
    assert both[0] == first and both[1]["sample"] == 6
    manifest = Manifest.load(mixed / "data")
    source = next(source for source in manifest.sources if source.name == first["sources"])
    tokens = TokenFile(mixed / "data", source.shards, manifest.dtype)
    read = np.zeros(33, dtype=manifest.dtype)
    tokens.read(first["window"] * 32, read)
    text = load_tokenizer(mixed / "data", manifest).decode_bytes(read[read != manifest.end_of_document])
    assert first["text"].replace("<|endoftext|>", "") == text.decode(errors="replace")


@pytest.mark.parametrize("samples", ["", "x", "7-5", "0-100000", "-3", "1-2-3"])
def test_what_names_no_samples_is_one_line(samples: str, mixed: Path) -> None:
    with pytest.raises(InputError, match="sample"):
        run_show(mixed, samples, ())


def test_a_vocabulary_smaller_than_asked_for_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = new_campaign(tmp_path)
    result = run_data(directory, ("data.tokenizer.vocab_size=60000",))
    size = result["contents"]["vocab_size"]
    assert size < 60_000
    assert f"data.tokenizer.vocab_size = 60,000: this text gives {size:,} tokens" in capsys.readouterr().err


def test_a_campaign_in_the_folder_that_it_reads_takes_none_of_its_own_files(tmp_path: Path) -> None:
    directory = new_campaign(tmp_path / "inner")
    texts = sorted((directory / "texts").iterdir())
    for source in (".", ".."):
        toml = TOML.replace('paths = ["texts"]', f'paths = ["{source}"]')
        (directory / "campaign.toml").write_text(toml)
        digest = run_campaign(directory, ("checkpoint.url=kept",))["weights_digest"]
        assert sorted(walk(directory)) == texts
        assert run_data(directory, ())["manifest"] == Manifest.load(directory / "data").digest
        assert run_campaign(directory, ("checkpoint.url=kept",))["weights_digest"] == digest
        shutil.rmtree(directory / "kept")
        (directory / "train.json").unlink()


def test_an_older_corpus_whose_audit_fails_says_what_to_do(tmp_path: Path) -> None:
    directory = older_corpus(tmp_path)
    manifest = Manifest.load(directory)
    append_to_shard(directory, manifest, load_holdout(directory, manifest, "iid")[0].tokens.tolist())
    (tmp_path / "campaign.toml").write_text(TOML)
    with open_workspace(tmp_path, quiet=True) as workspace, pytest.raises(TenfoldError, match="by an older tenfold"):
        audit_data(workspace)
