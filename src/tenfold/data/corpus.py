"""Reading a finished corpus back: documents of the shards, documents of a holdout, bytes of each token."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core.errors import InputError
from tenfold.data.manifest import HoldoutText, IsolatedText, Manifest, SourceText
from tenfold.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class HoldoutDocument:
    """One held-out document: its UTF-8 and its tokens, end-of-document left out."""

    text: bytes
    tokens: NDArray[np.integer]


def load_tokenizer(directory: Path, manifest: Manifest) -> Tokenizer:
    """The tokenizer of a corpus."""
    return Tokenizer.load(directory / manifest.tokenizer_file)


def token_byte_lengths(directory: Path, manifest: Manifest) -> NDArray[np.int64]:
    """Bytes each token stands for, [vocabulary]."""
    return load_tokenizer(directory, manifest).byte_lengths


def load_holdout(directory: Path, manifest: Manifest, name: str) -> list[HoldoutDocument]:
    """Documents of one holdout. Raises InputError when the corpus has none of that name."""
    holdout = next((holdout for holdout in manifest.holdouts if holdout.name == name), None)
    if holdout is None:
        raise InputError(f"{directory}: this corpus has no holdout {name!r}; build it again with `tenfold data`")
    return load_held_out(directory, manifest, holdout)


def load_held_out(directory: Path, manifest: Manifest, text: HoldoutText | IsolatedText) -> list[HoldoutDocument]:
    """Documents of one file of held-out text."""
    tokenizer = load_tokenizer(directory, manifest)
    row = np.fromfile(directory / text.file, dtype=manifest.dtype)
    return [
        HoldoutDocument(tokenizer.decode_bytes(tokens), tokens)
        for tokens in split_documents(iter([row]), manifest.end_of_document)
    ]


def training_documents(directory: Path, manifest: Manifest, source: SourceText) -> Iterator[NDArray[np.integer]]:
    """Tokens of each document of one source, in the order of the shards; a document may span two of them."""
    rows = (np.memmap(directory / shard.file, dtype=manifest.dtype, mode="r") for shard in source.shards)
    yield from split_documents(rows, manifest.end_of_document)


def split_documents(rows: Iterator[NDArray[np.integer]], end_of_document: int) -> Iterator[NDArray[np.integer]]:
    """Cut rows of tokens, read as one, at the end-of-document tokens. What follows the last one is a document too."""
    waiting: list[NDArray[np.integer]] = []
    for row in rows:
        start = 0
        for end in np.flatnonzero(row == end_of_document).tolist():
            yield np.concatenate([*waiting, row[start:end]])
            waiting, start = [], end + 1
        if start < row.size:
            waiting.append(row[start:])
    if waiting:
        yield np.concatenate(waiting)
