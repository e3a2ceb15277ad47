"""Token files: written once, whole, then memory-mapped."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.data.manifest import Shard, sha256_of

Tokens = NDArray[np.integer]


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger]:
    """uint16 where the vocabulary fits, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def write_synced(path: Path, content: bytes) -> str:
    """Write a file and force it to disk; returns its sha256. It counts only once the manifest names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    return sha256_of(path)


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
