"""Sample i of the training order: a pure function of manifest, seed and i. The data state of a run is one integer.

Every source is one long row of tokens, documents packed one after the other; sample j of it is the window of
context + 1 tokens that begins at j · context. Without weights all sources together form one pool, and an epoch is a
permutation of it; sources too short for a sample are packed into one row. With weights, each block of MIXTURE_BLOCK
samples holds every source in its exact share, in an order permuted anew each block, and each source runs through epochs
of its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError
from tenfold.data.corpus import TokenFile
from tenfold.data.manifest import Manifest, SourceText

ROUNDS = 6
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64 (Steele et al., 2014)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1

Integers = NDArray[np.uint64]


def mix(x: Integers) -> Integers:
    """SplitMix64's finaliser: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLIERS[0]
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLIERS[1]
    return x ^ (x >> np.uint64(31))


def derive_keys(seed: int, purpose: int, pool: int, rounds: NDArray[np.int64]) -> Integers:
    """A 64-bit key for each of `rounds` (epochs or blocks of one pool). Same shape."""
    keys = np.zeros(rounds.shape, dtype=np.uint64)
    for part in (seed, purpose, pool):
        keys = mix(keys + np.uint64((part * 2 + 1) * _GOLDEN & _MASK))
    return mix(keys + (rounds.astype(np.uint64) * np.uint64(2) + np.uint64(1)) * np.uint64(_GOLDEN))


def permute(positions: NDArray[np.integer], size: int, keys: Integers) -> NDArray[np.int64]:
    """Where each position of 0 … size − 1 goes under its key. Same shape as `positions`, like `keys`."""
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    out = _feistel(positions.astype(np.uint64), half_bits, keys)
    outside = out >= size
    while outside.any():
        out[outside] = _feistel(out[outside], half_bits, keys[outside])
        outside = out >= size
    return out.astype(np.int64)


def _feistel(x: Integers, half_bits: int, keys: Integers) -> Integers:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = x >> shift, x & mask
    for number in range(ROUNDS):
        round_keys = keys + np.uint64((number + 1) * _GOLDEN & _MASK)
        left, right = right, left ^ (mix(right + round_keys) & mask)
    return (left << shift) | right


MIXTURE_BLOCK = 4096


@dataclass(frozen=True)
class _Pool:
    """Rows that share one permutation: all of them without weights, one of them with."""

    number: int
    rows: list[int]
    ends: NDArray[np.int64]
    """Samples up to and including each row."""

    @property
    def samples(self) -> int:
        return int(self.ends[-1])


@dataclass(frozen=True)
class _Row:
    """Sources that are read as one sequence of tokens: one, or several of which some are too short for a sample."""

    sources: list[SourceText]

    @property
    def names(self) -> str:
        return " + ".join(source.name for source in self.sources)

    @property
    def tokens(self) -> int:
        return sum(source.tokens for source in self.sources)

    def open(self, directory: Path, dtype: str) -> TokenFile:
        return TokenFile(directory, [shard for source in self.sources for shard in source.shards], dtype)


@dataclass(frozen=True)
class SamplePlace:
    """Where a sample is read: which window of which sources, and in which epoch of theirs, counted from 0."""

    sources: str
    window: int
    epoch: int


class Stream:
    """The training order of a corpus."""

    def __init__(self, directory: Path, manifest: Manifest, seed: int, context: int) -> None:
        """Map the shards. Raises InputError when the corpus is shorter than one sample."""
        self.context, self._seed = context, seed
        for source in manifest.sources:
            if source.weight is not None and source.tokens <= context:
                raise InputError(
                    f"{directory}: source {source.name!r} has a weight but its {source.tokens} tokens do not fill one "
                    f"sample of {context} + 1; give it more text or take it out"
                )
        if manifest.tokens <= context:
            raise InputError(
                f"{directory}: {manifest.tokens} tokens do not fill one sample of {context} + 1; add text, or lower "
                "model.context"
            )
        self._dtype = np.dtype(manifest.dtype)
        self._rows = _packed([source for source in manifest.sources if source.tokens], context)
        self._files = [row.open(directory, manifest.dtype) for row in self._rows]
        samples = [(len(file) - 1) // context for file in self._files]
        self.samples_per_epoch = sum(samples)
        self._pools = _pools(self._rows, samples)
        weights = [row.sources[0].weight or 0.0 for row in self._rows]
        self._mixture_ends = np.cumsum(mixture_counts(weights) if len(self._pools) > 1 else [0])

    def epochs(self, samples: int) -> dict[str, float]:
        """How often the text of each source has been seen after so many samples; packed sources are named together."""
        if len(self._pools) == 1:
            seen = samples / self.samples_per_epoch
            return {row.names: seen for row in self._rows}
        blocks, within = divmod(samples, MIXTURE_BLOCK)
        begun, _ = self._pool_of(np.arange(samples - within, samples, dtype=np.int64))
        of_block = np.diff(self._mixture_ends, prepend=0)
        shown = blocks * of_block + np.bincount(begun, minlength=len(self._pools))
        return {self._rows[p.number].names: float(shown[p.number]) / p.samples for p in self._pools}

    def place(self, number: int) -> SamplePlace:
        """Where sample `number` is read."""
        rows, windows = self.locate(np.asarray([number]))
        pools, places = self._pool_of(np.asarray([number]))
        pool = self._pools[int(pools[0])]
        return SamplePlace(self._rows[int(rows[0])].names, int(windows[0]), int(places[0]) // pool.samples)

    def sources(self, numbers: NDArray[np.int64]) -> list[str]:
        """Where each sample is read; packed sources are named together."""
        return [self._rows[row].names for row in self.locate(numbers)[0].tolist()]

    def sample(self, number: int) -> NDArray[np.unsignedinteger]:
        """Tokens of sample `number`, [context + 1]."""
        row: NDArray[np.unsignedinteger] = self.batch(number, 1)[0]
        return row

    def batch(self, start: int, count: int) -> NDArray[np.unsignedinteger]:
        """Samples start … start + count − 1, [count, context + 1]."""
        return self.take(np.arange(start, start + count, dtype=np.int64))

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        """Any samples, [len(numbers), context + 1]."""
        out = np.empty((numbers.size, self.context + 1), dtype=self._dtype)
        sources, windows = self.locate(numbers)
        for row, source, window in zip(out, sources.tolist(), windows.tolist(), strict=True):
            self._files[source].read(window * self.context, row)
        return out

    def locate(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, window in it) of each sample; a row is one source where none is too short for a sample."""
        pools, places = self._pool_of(numbers)
        sources, windows = np.empty_like(numbers), np.empty_like(numbers)
        for pool in self._pools:
            mine = pools == pool.number
            shuffled = self._shuffle(pool, places[mine])
            which = np.searchsorted(pool.ends, shuffled, side="right")
            sources[mine] = np.asarray(pool.rows)[which]
            windows[mine] = shuffled - np.concatenate([[0], pool.ends])[which]
        return sources, windows

    def _pool_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(pool, how many samples of that pool come before) of each sample."""
        if len(self._pools) == 1:
            return np.zeros_like(numbers), numbers
        blocks, within = np.divmod(numbers, MIXTURE_BLOCK)
        within = permute(within, MIXTURE_BLOCK, derive_keys(self._seed, 1, 0, blocks))
        pools = np.searchsorted(self._mixture_ends, within, side="right")
        starts = np.concatenate([[0], self._mixture_ends])
        return pools, blocks * (starts[pools + 1] - starts[pools]) + within - starts[pools]

    def _shuffle(self, pool: _Pool, places: NDArray[np.int64]) -> NDArray[np.int64]:
        epochs, within = np.divmod(places, pool.samples)
        return permute(within, pool.samples, derive_keys(self._seed, 2, pool.number, epochs))


def _packed(sources: list[SourceText], context: int) -> list[_Row]:
    """A row for each source that fills a sample; the others in one of their own, or after the last where it is short.

    Together they fill at least one sample.
    """
    rows = [_Row([source]) for source in sources if source.tokens > context]
    short = _Row([source for source in sources if source.tokens <= context])
    if short.tokens > context:
        return [*rows, short]
    return [*rows[:-1], _Row([*rows[-1].sources, *short.sources])]


def _pools(rows: list[_Row], samples: list[int]) -> list[_Pool]:
    if all(row.sources[0].weight is None for row in rows):
        return [_Pool(0, list(range(len(rows))), np.cumsum(samples))]
    return [_Pool(number, [number], np.asarray([count])) for number, count in enumerate(samples)]


def mixture_counts(weights: list[float]) -> NDArray[np.int64]:
    """Samples of each source in a block: shares rounded by largest remainder, at least one each."""
    shares = np.asarray(weights) / sum(weights) * MIXTURE_BLOCK
    counts = np.maximum(1, np.floor(shares)).astype(np.int64)
    by_remainder = np.argsort(-(shares - counts), kind="stable")
    for step in range(MIXTURE_BLOCK - int(counts.sum())):
        counts[by_remainder[step % counts.size]] += 1
    counts[np.argmax(counts)] += MIXTURE_BLOCK - int(counts.sum())
    return counts
