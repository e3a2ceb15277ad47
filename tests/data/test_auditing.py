"""The audit must find what the build would never leave: planted by hand, after the build."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.digests import digest_of_file
from tenfold.data import Manifest, audit, build_corpus, load_holdout
from tenfold.data.auditing import UNKNOWN, Levels, Numbers, RunNumbers, WordNumbers
from tenfold.data.corpus import load_tokenizer
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
    rows = [numbers_of.of(document) for document in documents]
    levels = Levels(rows, length)

    def ends(row: list[str]) -> Numbers:
        return np.arange(length, len(row) + 1)

    numbers = RunNumbers([(levels.of(row), ends(document)) for row, document in zip(rows, documents, strict=True)])
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
