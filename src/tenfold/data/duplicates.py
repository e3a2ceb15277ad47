"""Near-duplicate clusters by MinHash and LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3)."""

from collections.abc import Callable, Iterable

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from tenfold.data.words import hash_runs

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_PERMUTATION_SEED = 1  # part of the definition, not of a run: the same corpus always clusters alike


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
    index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
    signatures: dict[int, NDArray[np.uint64]] = {}
    for number, words in enumerate(documents):
        shingles = np.unique(hash_runs(words, min(SHINGLE_WORDS, max(words.size, 1))))
        if shingles.size == 0:
            continue
        signature = _signature(shingles)
        for other in index.query(signature):
            if np.mean(signatures[other] == signature.hashvalues) >= threshold:
                clusters.join(number, other)
        index.insert(number, signature)
        signatures[number] = signature.hashvalues
        report(number + 1)
    return clusters


def _signature(shingles: NDArray[np.uint64]) -> MinHash:
    signature = MinHash(num_perm=PERMUTATIONS, seed=_PERMUTATION_SEED, hashfunc=int)
    signature.update_batch((shingles >> np.uint64(32)).tolist())
    return signature
