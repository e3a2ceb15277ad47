"""The audit must find what the build would never leave: planted by hand, after the build."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core import CampaignFiles
from tenfold.core.digests import digest_of_file
from tenfold.data import Manifest, audit, audit_passed, build_corpus, load_holdout
from tenfold.data.corpus import load_tokenizer
from tenfold.data.run_numbers import UNKNOWN, Levels, Numbers, RunNumbers, WordNumbers
from tests.data.texts import library_texts, small_data, write_texts

WORDS = st.lists(st.sampled_from("abc"), max_size=40)


@given(st.lists(WORDS, min_size=1, max_size=4), WORDS, st.integers(1, 13))
def test_run_numbers_know_exactly_the_runs_of_the_holdouts(
    documents: list[list[str]], words: list[str], length: int
) -> None:
    def runs(row: list[str]) -> list[tuple[str, ...]]:
        return [tuple(row[i : i + length]) for i in range(len(row) - length + 1)]

    known = {run for document in documents for run in runs(document)}
    numbers_of = WordNumbers(documents)
    row = np.concatenate([np.append(numbers_of.of(document), UNKNOWN) for document in documents])
    levels = Levels(row, length)

    def ends(row: list[str]) -> Numbers:
        return np.arange(length, len(row) + 1)

    numbers = RunNumbers(levels.own, np.arange(length, row.size + 1))
    assert numbers.count == len(known)
    found = numbers.of(levels.of(numbers_of.of(words)), ends(words)).tolist()
    assert [number != UNKNOWN for number in found] == [run in known for run in runs(words)]


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Manifest]:
    data = small_data(write_texts(tmp_path / "texts", library_texts(40)))
    return tmp_path / "data", build_corpus(data, 1, tmp_path / "data", tmp_path, lambda _: None)


def append_to_shard(directory: Path, manifest: Manifest, tokens: list[int]) -> None:
    """Add a document to the last shard and make hashes and counts fit, as a build gone wrong would."""
    value = json.loads((directory / "manifest.json").read_text())
    source = value["sources"][-1]
    path = directory / source["shards"][-1]["file"]
    row = np.concatenate([np.fromfile(path, dtype=manifest.dtype), [*tokens, manifest.end_of_document]])
    path.write_bytes(row.astype(manifest.dtype).tobytes())
    source["shards"][-1] |= {"sha256": digest_of_file(path), "tokens": int(row.size)}
    lengths = load_tokenizer(directory, manifest).byte_lengths
    source["documents"] += 1
    source["tokens"] += len(tokens) + 1
    source["bytes"] += int(lengths[tokens].sum())
    (directory / "manifest.json").write_text(json.dumps(value))


def failed(directory: Path) -> set[str]:
    return {check.name for check in audit(directory).checks if not check.passed}


def test_an_untouched_corpus_passes(corpus: tuple[Path, Manifest]) -> None:
    assert failed(corpus[0]) == set()


def test_an_exact_copy_is_found(corpus: tuple[Path, Manifest]) -> None:
    directory, manifest = corpus
    append_to_shard(directory, manifest, load_holdout(directory, manifest, "iid")[0].tokens.tolist())
    assert failed(directory) == {"exact copies", "shared runs of 13 words", "near-copies"}


def test_a_short_excerpt_is_found(corpus: tuple[Path, Manifest]) -> None:
    directory, manifest = corpus
    append_to_shard(directory, manifest, load_holdout(directory, manifest, "iid")[0].tokens[100:160].tolist())
    assert failed(directory) == {"shared runs of 13 words"}


def test_a_flipped_byte_is_found(corpus: tuple[Path, Manifest]) -> None:
    directory, manifest = corpus
    path = directory / manifest.sources[0].shards[0].file
    content = bytearray(path.read_bytes())
    content[1234] ^= 1
    path.write_bytes(content)
    assert failed(directory) == {"hashes of files"}


def test_a_wrong_count_is_found(corpus: tuple[Path, Manifest]) -> None:
    directory, _ = corpus
    value = json.loads((directory / "manifest.json").read_text())
    value["sources"][0]["documents"] += 1
    (directory / "manifest.json").write_text(json.dumps(value))
    assert failed(directory) == {"counts of source files"}


@pytest.mark.parametrize("frame", ["prompt", "json"])
def test_framed_dialogues_are_trained_on_with_their_frame(frame: str, tmp_path: Path) -> None:
    from tests.data.test_build import training_texts
    from tests.data.test_isolation import FRAMES, dialogues

    texts = dialogues(100, FRAMES[frame])
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    holdouts = [{"name": "iid", "kind": "split", "fraction": 0.1}]
    sources = [{"kind": "jsonl", "paths": [str(tmp_path / "texts.jsonl")]}]
    data = small_data(tmp_path, sources=sources, holdouts=holdouts)
    manifest = build_corpus(data, 1, tmp_path / "data", tmp_path, lambda _: None)
    assert len(training_texts(tmp_path / "data", manifest)) == 90
    assert set(training_texts(tmp_path / "data", manifest)) < set(texts)
    checks = {check.name: check for check in audit(tmp_path / "data").checks}
    assert all(check.passed and not check.doubtful for check in checks.values())
    assert "training lacks 0.0% of the former, the holdout 0.0% of the latter" in checks["bias of iid"].detail


def test_a_false_claim_that_something_is_common_is_found(corpus: tuple[Path, Manifest]) -> None:
    """A build that calls everything common would let everything through."""
    directory, manifest = corpus
    append_to_shard(directory, manifest, load_holdout(directory, manifest, "iid")[0].tokens.tolist())
    path = directory / "holdouts/common.bin"
    path.write_bytes(np.asarray([[13, 0, first] for first in range(400)], dtype="<i4").tobytes())
    value = json.loads((directory / "manifest.json").read_text())
    value["common"]["sha256"] = digest_of_file(path)
    (directory / "manifest.json").write_text(json.dumps(value))
    assert "common runs" in failed(directory)


def older_corpus(directory: Path) -> Path:
    """A corpus as tenfold built it when FORMAT was 1: every document had a frame of 18 words, which was cut out."""
    with tarfile.open(Path(__file__).parent / "older" / "format1.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return directory / "data"


def test_a_corpus_of_format_1_opens_and_what_its_rules_cut_is_seen(tmp_path: Path) -> None:
    directory = older_corpus(tmp_path)
    manifest = Manifest.load(directory)
    assert not manifest.has_format_of_now and audit_passed(CampaignFiles(tmp_path), manifest)
    assert len(load_holdout(directory, manifest, "iid")) == 7
    checks = {check.name: check for check in audit(directory).checks}
    assert all(check.passed for check in checks.values())
    assert checks["bias of iid"].doubtful and "training lacks 100.0%" in checks["bias of iid"].detail
    append_to_shard(directory, manifest, load_holdout(directory, manifest, "iid")[0].tokens.tolist())
    assert "exact copies" in failed(directory)
