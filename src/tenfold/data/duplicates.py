"""Near-duplicates by MinHash and LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3).

Two documents are near-duplicates when their signatures agree in one band at least and, over all, in at least the
threshold. Clusters are what such pairs connect, so they depend on no order.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tenfold.data.words import hash_runs, sorted_unique

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_PERMUTATION_SEED = 1  # part of the definition, not of a run: the same corpus always clusters alike
_CHUNK = 256  # shingles at once: the products stay in the cache
_STEPS = 1000  # of the integrals over similarity
LARGEST_GROUP = 16_384
"""Documents of one band that are compared each with each. Of a larger group, all are compared with the first, and what
is unlike it with one another in blocks of this size."""
Hashes = NDArray[np.uint64]
Signatures = NDArray[np.uint32]
Integers = NDArray[np.int64]
_random = np.random.default_rng(_PERMUTATION_SEED)
_FACTORS: Hashes = _random.integers((1 << 64) - 1, size=PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_ADDENDS: Hashes = _random.integers((1 << 64) - 1, size=PERMUTATIONS, dtype=np.uint64)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def shingles_of(words: Hashes) -> Hashes:
    """Hashes of the different runs of SHINGLE_WORDS words; of all words where there are fewer."""
    return sorted_unique(hash_runs(words, min(SHINGLE_WORDS, max(words.size, 1))))


FEWEST_OWN = 10  # shingles


def without_frames(shingles: Hashes, frames: Hashes) -> Hashes:
    """What a document has of its own: its shingles but those that many documents have; all where hardly any is left.

    Else a long system prompt would make near-duplicates of all documents below it.
    """
    own = shingles[~_are_in(shingles, frames)] if frames.size else shingles
    return own if own.size >= FEWEST_OWN else shingles


def _are_in(shingles: Hashes, frames: Hashes) -> NDArray[np.bool_]:
    """Which shingles are among the frames; both are sorted."""
    places = np.minimum(np.searchsorted(frames, shingles), frames.size - 1)
    return np.asarray(frames[places] == shingles)


def signature(shingles: Hashes) -> Signatures:
    """The least of each of PERMUTATIONS hashes over a set of shingles, [PERMUTATIONS].

    Multiply–shift hashes (Dietzfelbinger et al., 1997): no division, so several times as fast as modulo a prime.
    """
    least = np.full(PERMUTATIONS, np.uint64(0xFFFFFFFFFFFFFFFF))
    for start in range(0, shingles.size, _CHUNK):
        hashed = shingles[start : start + _CHUNK] * _FACTORS[:, None]
        hashed += _ADDENDS[:, None]
        least = np.minimum(least, hashed.min(axis=1))
    return (least >> np.uint64(32)).astype(np.uint32)  # the least of the upper halves is the upper half of the least


@lru_cache
def bands_of(threshold: float) -> tuple[int, int]:
    """(bands, rows of each) with the fewest wrong verdicts over pairs of any similarity: false positives below the
    threshold, false negatives above it, weighed alike."""
    similarity = (np.arange(_STEPS) + 0.5) / _STEPS

    def errors(bands: int, rows: int) -> float:
        below, above = similarity * threshold, threshold + similarity * (1 - threshold)
        positives = np.mean(1 - (1 - below**rows) ** bands) * threshold
        negatives = np.mean((1 - above**rows) ** bands) * (1 - threshold)
        return float(positives + negatives)

    shapes = [(b, r) for b in range(1, PERMUTATIONS + 1) for r in range(1, PERMUTATIONS // b + 1)]
    return min(shapes, key=lambda shape: errors(*shape))


def band_hashes(signatures: Signatures, threshold: float) -> Hashes:
    """A hash of each band of each signature, [documents, bands]."""
    bands, rows = bands_of(threshold)
    values = signatures[:, : bands * rows].reshape(-1, bands, rows).astype(np.uint64)
    hashed = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), values.shape[:2])
    for row in range(rows):
        hashed = (hashed ^ values[:, :, row]) * _MIX[0]
        hashed = (hashed ^ (hashed >> np.uint64(31))) * _MIX[1]
        hashed = hashed ^ (hashed >> np.uint64(29))
    return hashed


def similar_pairs(
    groups: Integers, numbers: Integers, signatures_of: Callable[[Integers], Signatures], threshold: float
) -> Iterator[Integers]:
    """Pairs that connect what is near-duplicate within each group, [pairs, 2].

    Group g holds numbers[groups[g] : groups[g + 1]]; not every pair is named, but all that are similar are connected.
    """
    sizes = np.diff(groups)
    for group in np.flatnonzero(sizes > LARGEST_GROUP).tolist():
        yield from _pairs_of_large(numbers[groups[group] : groups[group + 1]], signatures_of, threshold)
    wanted = np.flatnonzero((sizes > 1) & (sizes <= LARGEST_GROUP))
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes[wanted]) // LARGEST_GROUP)) + 1
    for some in np.split(wanted, cuts):
        members = np.concatenate([np.empty(0, dtype=np.int64), *(numbers[groups[g] : groups[g + 1]] for g in some)])
        if members.size:
            yield _pairs_of_groups(np.cumsum([0, *sizes[some]]), members, signatures_of(members), threshold)


def _pairs_of_groups(starts: Integers, members: Integers, signatures: Signatures, threshold: float) -> Integers:
    """Every member against the first of its group; where some are unlike that, the rest one by one."""
    sizes = np.diff(starts)
    firsts = np.repeat(starts[:-1], sizes)
    alike = _agree(signatures[firsts], signatures, threshold)
    others = alike & (firsts != np.arange(members.size))
    found = [np.column_stack([members[firsts[others]], members[others]])]
    unlike = np.add.reduceat(~alike, starts[:-1]) if members.size else np.zeros(0)
    for group in np.flatnonzero((unlike > 0) & (sizes > 2)).tolist():
        own = slice(int(starts[group]), int(starts[group + 1]))
        found.append(_connect(members[own], signatures[own], threshold))
    return np.concatenate(found)


def _connect(members: Integers, signatures: Signatures, threshold: float) -> Integers:
    """Breadth first: pairs that connect all members of a group that are similar to one another."""
    left, found = np.arange(members.size), []
    waiting: list[int] = []
    while left.size:
        if not waiting:
            waiting, left = [int(left[0])], left[1:]
        one = waiting.pop()
        alike = _agree(signatures[one], signatures[left], threshold)
        reached = left[alike]
        found += [(members[one], members[other]) for other in reached.tolist()]
        waiting += reached.tolist()
        left = left[~alike]
    return np.asarray(found, dtype=np.int64).reshape(-1, 2)


def _pairs_of_large(
    members: Integers, signatures_of: Callable[[Integers], Signatures], threshold: float
) -> Iterator[Integers]:
    first = signatures_of(members[:1])
    for start in range(1, members.size, LARGEST_GROUP):
        block = members[start : start + LARGEST_GROUP]
        signatures = signatures_of(block)
        alike = _agree(first, signatures, threshold)
        yield np.column_stack([np.full(int(alike.sum()), members[0]), block[alike]])
        yield _connect(block, signatures, threshold)


def _agree(one: Signatures, other: Signatures, threshold: float) -> NDArray[np.bool_]:
    """Whether signatures agree in at least the threshold of their places, [documents]."""
    return np.asarray(np.mean(one == other, axis=-1) >= threshold)


def representatives(pairs: Integers) -> Integers:
    """(number, smallest number of its cluster) of each document that is in a pair and is not the smallest, sorted."""
    numbers = np.unique(pairs)
    places = np.searchsorted(numbers, pairs)
    edges = coo_array((np.ones(len(pairs), dtype=bool), (places[:, 0], places[:, 1])), shape=(numbers.size,) * 2)
    _, labels = connected_components(edges, directed=False)
    _, first, of_label = np.unique(labels, return_index=True, return_inverse=True)
    least = numbers[first[of_label]]  # numbers are sorted, so the first of a label is its smallest
    found: Integers = np.column_stack([numbers, least])[least != numbers]
    return found
