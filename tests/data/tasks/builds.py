"""A build of many small tasks, for the tests of how they are done; also a program, for those that kill it."""

import json
import sys
from pathlib import Path

import pytest

from tenfold.config import Data
from tenfold.data import Manifest, build_corpus
from tenfold.data.tasks import graph, local
from tests.data.texts import library_texts, small_data, write_texts

PART_BYTES = 40_000
BUCKET_BYTES = 120_000


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts, several ranges of hashes and workers, for a text that has one part and needs no worker."""
    monkeypatch.setattr(graph, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(graph, "BUCKET_BYTES", BUCKET_BYTES)
    monkeypatch.setattr(local, "LEAST_BYTES", 0)


def write_mixture(folder: Path) -> None:
    """Sources with exact and near copies in other parts and other sources, and a given evaluation set beside them."""
    texts = library_texts(48, max_bytes=20_000)
    write_texts(folder / "texts", texts[:30])
    edited = [text.replace("self", "this", 3) + f"\n# {number}\n" for number, text in enumerate(texts[5:12])]
    lines = [json.dumps({"text": text}) for text in [*texts[24:44], *edited]]
    (folder / "more.jsonl").write_text("\n".join([*lines, "{broken"]))
    write_texts(folder / "given", [*texts[44:], texts[2]])


def mixture(folder: Path, more: str = "more.jsonl", **how: object) -> Data:
    """The configuration of `write_mixture`, whose JSON lines may lie elsewhere.

    It has two split holdouts, and a tokenizer trained on a part of the text.
    """
    sources = [
        {"kind": "files", "name": "texts", "paths": ["texts"], "max_documents": 29},
        {"kind": "jsonl", "name": "more", "paths": [more]},
    ]
    holdouts = [
        {"name": "iid", "kind": "split", "fraction": 0.05, "max_bytes": 20_000},
        {"name": "given", "kind": "files", "paths": ["given"], "max_bytes": 20_000},
        {"name": "more", "kind": "split", "fraction": 0.03},
    ]
    tokenizer = {"vocab_size": 512, "train_bytes": 100_000}
    return small_data(folder, sources=sources, holdouts=holdouts, tokenizer=tokenizer, shard_tokens=20_000, **how)


def build_mixture(folder: Path, place: str, more: str = "more.jsonl", **how: object) -> Manifest:
    """Build it in `folder`/`place`."""
    return build_corpus(mixture(folder, more, **how), 1, folder / place, folder, lambda _: None)


if __name__ == "__main__":
    graph.PART_BYTES, graph.BUCKET_BYTES, local.LEAST_BYTES = PART_BYTES, BUCKET_BYTES, 0
    build_mixture(Path(sys.argv[1]), "killed", workers=int(sys.argv[2]))
