"""Near-duplicate clusters by MinHash and LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3)."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from tenfold.data.words import hash_runs, sorted_unique

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_PERMUTATION_SEED = 1  # part of the definition, not of a run: the same corpus always clusters alike
_CHUNK = 1024  # shingles at once: the products stay in the cache
Hashes = NDArray[np.uint64]
_random = np.random.default_rng(_PERMUTATION_SEED)
_FACTORS: Hashes = _random.integers((1 << 64) - 1, size=PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
_ADDENDS: Hashes = _random.integers((1 << 64) - 1, size=PERMUTATIONS, dtype=np.uint64)


class Clusters:
    """Union–find over document numbers; a cluster's representative is its smallest number."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, number: int) -> int:
        """The representative of a document's cluster."""
        while self._parent[number] != number:
            self._parent[number] = number = self._parent[self._parent[number]]
        return number

    def join(self, one: int, other: int) -> None:
        """Put two clusters together."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def cluster_near_duplicates(
    documents: Iterable[NDArray[np.uint64]], count: int, threshold: float, report: Callable[[int], None]
) -> Clusters:
    """Clusters of documents (given as word hashes) whose shingle sets overlap by at least `threshold` (Jaccard)."""
    clusters = Clusters(count)
    if threshold >= 1:
        return clusters  # equal texts are removed before, by their hash
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, hashfunc=_digest)
    signatures: dict[int, NDArray[np.uint32]] = {}
    minhash = MinHash(num_perm=PERMUTATIONS, seed=_PERMUTATION_SEED)  # carries one signature after the other
    for number, words in enumerate(documents):
        shingles = sorted_unique(hash_runs(words, min(SHINGLE_WORDS, max(words.size, 1))))
        if shingles.size == 0:
            continue
        values = signature(shingles)
        minhash.hashvalues = values.astype(np.uint64)
        for other in index.query(minhash):
            if np.mean(signatures[other] == values) >= threshold:
                clusters.join(number, other)
        index.insert(number, minhash)
        signatures[number] = values
        report(number + 1)
    return clusters


def signature(shingles: Hashes) -> NDArray[np.uint32]:
    """The least of each of PERMUTATIONS hashes over a set of shingles, [PERMUTATIONS].

    Multiply–shift hashes (Dietzfelbinger et al., 1997): no division, so several times as fast as modulo a prime.
    """
    least = np.full(PERMUTATIONS, np.uint32(0xFFFFFFFF))
    for start in range(0, shingles.size, _CHUNK):
        hashed = (shingles[start : start + _CHUNK] * _FACTORS[:, None] + _ADDENDS[:, None]) >> np.uint64(32)
        least = np.minimum(least, hashed.min(axis=1).astype(np.uint32))
    return least


def _digest(band: bytes) -> bytes:
    """A short key for a band of a signature, so that the index stays small."""
    return hashlib.blake2b(band, digest_size=8).digest()
