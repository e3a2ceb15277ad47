"""Token files of a corpus, written once, whole, and read back: by position, or as documents."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError, digest_of_bytes
from tenfold.data.manifest import HoldoutText, IsolatedText, Manifest, Shard, SourceText
from tenfold.data.tokenizer import Tokenizer

Tokens = NDArray[np.integer]


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """uint16 where the vocabulary fits, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def write_synced(path: Path, content: bytes) -> str:
    """Write a file and force it to disk; returns its sha256.

    It counts only once the manifest names it, so it needs no temporary name. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    return digest_of_bytes(content)


class ShardWriter:
    """Cuts one source's stream of tokens into files of equal length."""

    def __init__(self, directory: Path, prefix: str, shard_tokens: int, dtype: np.dtype[np.unsignedinteger]) -> None:
        self._directory, self._prefix, self._size, self._dtype = directory, prefix, shard_tokens, dtype
        self._waiting: list[NDArray[np.unsignedinteger]] = []
        self._waiting_tokens = 0
        self.shards: list[Shard] = []

    def append(self, tokens: Sequence[int] | Tokens) -> None:
        """Add one document's tokens, its end-of-document token included."""
        self._waiting.append(np.asarray(tokens, dtype=self._dtype))
        self._waiting_tokens += self._waiting[-1].size
        while self._waiting_tokens >= self._size:
            self._write(self._size)

    def close(self) -> list[Shard]:
        """Write what is left; returns every shard."""
        if self._waiting_tokens:
            self._write(self._waiting_tokens)
        return self.shards

    def _write(self, count: int) -> None:
        tokens = np.concatenate(self._waiting)
        name = f"shards/{self._prefix}-{len(self.shards):05d}.bin"
        digest = write_synced(self._directory / name, tokens[:count].tobytes())
        self.shards.append(Shard(name, digest, count))
        self._waiting, self._waiting_tokens = [tokens[count:]], tokens.size - count


class TokenFile:
    """One source's shards read as a single sequence of tokens, memory-mapped."""

    def __init__(self, directory: Path, shards: list[Shard], dtype: str) -> None:
        self._maps = [np.memmap(directory / shard.file, dtype=dtype, mode="r") for shard in shards]
        self._starts = np.cumsum([0, *(shard.tokens for shard in shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, out: Tokens) -> None:
        """Fill `out` with the tokens from `start` on."""
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        filled = 0
        while filled < out.size:
            offset = start + filled - int(self._starts[shard])
            part = self._maps[shard][offset : offset + out.size - filled]
            out[filled : filled + part.size] = part
            filled += part.size
            shard += 1


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
