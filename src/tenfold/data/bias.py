"""How far isolation has drawn training text and a split of it apart.

A split is drawn from the sources, so what is common in the one should be common in the other. What was cut out of the
training text and stands in the holdout all the same, or was never left to be drawn, is bias: the model is judged on
what it could not learn. It is measured by runs of SHINGLE words. A run is common on one side when, at its frequency
there, EXPECTED documents of the other side should have it, so that chance alone hides one in e^EXPECTED = 148; and in
at least FEWEST_DOCUMENTS documents, since one author repeats himself.

Memory does not grow with the training text: of its runs those with the smallest hashes are counted, as many as fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.data.frequency import SHINGLE
from tenfold.data.words import HashSet, hash_runs, hash_words, sorted_unique

EXPECTED = 5.0
FEWEST_DOCUMENTS = 3
SAMPLED = 1 << 20  # runs
WAITING = 1 << 20  # hashes

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


def runs_of(text: str, length: int = SHINGLE) -> Hashes:
    """The different runs of so many words of a text, sorted."""
    return sorted_unique(hash_runs(hash_words(text), length))


@dataclass(frozen=True)
class Lacking:
    """How many runs are common on one side, and how many of them the other side has in no document."""

    common: int
    lacking: int

    @property
    def share(self) -> float:
        """Share of the common ones that the other side lacks; 0 where none is common."""
        return self.lacking / self.common if self.common else 0.0


class _Sample:
    """In how many documents each run stands, of the runs with the smallest hashes, at most SAMPLED of them."""

    def __init__(self) -> None:
        self._below = 1 << 64
        self._hashes = np.empty(0, dtype=np.uint64)
        self._counts = np.empty(0, dtype=np.int64)
        self._waiting: list[Hashes] = []
        self._size = 0

    def add(self, runs: Hashes) -> None:
        """Count the runs of one document, each once."""
        chosen = runs[: int(np.searchsorted(runs, np.uint64(self._below - 1), side="right"))]
        self._waiting.append(chosen)
        self._size += chosen.size
        if self._size > WAITING:
            self._merge()

    def counts(self) -> tuple[Hashes, Numbers]:
        """(run, documents that have it), by run."""
        self._merge()
        return self._hashes, self._counts

    def _merge(self) -> None:
        all_hashes = np.concatenate([self._hashes, *self._waiting])
        weights = np.concatenate([self._counts, np.ones(self._size, dtype=np.int64)])
        self._hashes, places = np.unique(all_hashes, return_inverse=True)
        self._counts = np.bincount(places, weights, self._hashes.size).astype(np.int64)
        self._waiting, self._size = [], 0
        while self._hashes.size > SAMPLED:
            self._below //= 2
            kept = int(np.searchsorted(self._hashes, np.uint64(self._below)))
            self._hashes, self._counts = self._hashes[:kept], self._counts[:kept]


class BiasMeter:
    """Compares the training documents with those of one split."""

    def __init__(self, held_out: Sequence[str], length: int = SHINGLE) -> None:
        self._length, self._held_out = length, len(held_out)
        empty = np.empty(0, dtype=np.uint64)
        runs = np.concatenate([empty, *(runs_of(text, length) for text in held_out)])
        self._runs = HashSet(runs)
        self._counts = np.bincount(np.searchsorted(self._runs.hashes, runs), minlength=len(self._runs))
        self._seen = np.zeros(len(self._runs), dtype=bool)
        self._sample = _Sample()
        self._documents = 0

    def look_at(self, text: str) -> None:
        """Count one training document."""
        runs = runs_of(text, self._length)
        self._seen[self._runs.find(runs)[1]] = True
        self._sample.add(runs)
        self._documents += 1

    def of_holdout(self) -> Lacking:
        """Runs that are common in the holdout, and those of them that training lacks."""
        common = self._counts >= self._least(self._held_out, self._documents)
        return Lacking(int(common.sum()), int((common & ~self._seen).sum()))

    def of_training(self) -> Lacking:
        """Runs that are common in training, of those sampled, and those of them that the holdout lacks."""
        hashes, counts = self._sample.counts()
        common = hashes[counts >= self._least(self._documents, self._held_out)]
        return Lacking(common.size, common.size - self._runs.find(common)[0].size)

    def _least(self, own: int, others: int) -> float:
        """What makes a run common: so many documents of `own`, with `others` on the other side."""
        return max(FEWEST_DOCUMENTS, EXPECTED * own / max(others, 1))
