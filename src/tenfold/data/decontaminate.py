"""Training text loses every run of n words that a holdout has too.

The rule is strict and the same for all text: no piece of training text shares `ngram` consecutive words with any
holdout. A document loses the shared runs and is split where they stood, so that no new run can form across a cut; a
document made of them by half is a copy and is dropped whole. Lee et al., arXiv 2107.06499, and Brown et al., arXiv
2005.14165, appendix C, use runs of 50 tokens and 13 words.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.data.words import hash_runs, word_spans

COPY_SHARE = 0.5


@dataclass(frozen=True)
class Decontaminated:
    """What is left of a document: pieces of text, in order, and whether anything was taken."""

    pieces: list[str]
    touched: bool


class HoldoutRuns:
    """Every run of `length` words of every holdout document."""

    def __init__(self, documents: Iterable[NDArray[np.uint64]], length: int) -> None:
        self.length = length
        runs = [hash_runs(words, length) for words in documents]
        self._runs = np.unique(np.concatenate(runs)) if runs else np.empty(0, dtype=np.uint64)

    def shared_words(self, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """For each word of a document, whether it stands in a shared run."""
        runs = hash_runs(words, self.length)
        shared = np.zeros(words.size, dtype=bool)
        if self._runs.size == 0 or runs.size == 0:
            return shared
        places = np.minimum(np.searchsorted(self._runs, runs), self._runs.size - 1)
        for start in np.flatnonzero(self._runs[places] == runs):
            shared[start : start + self.length] = True
        return shared


def decontaminate(text: str, words: NDArray[np.uint64], holdouts: HoldoutRuns, min_bytes: int) -> Decontaminated:
    """Take out of `text` what a holdout has too; pieces shorter than `min_bytes` go as well."""
    shared = holdouts.shared_words(words)
    if not shared.any():
        return Decontaminated([text], touched=False)
    if shared.mean() >= COPY_SHARE:
        return Decontaminated([], touched=True)
    pieces = [piece for piece in _cut(text, shared) if len(piece.encode()) >= min_bytes]
    return Decontaminated(pieces, touched=True)


def _cut(text: str, shared: NDArray[np.bool_]) -> Iterator[str]:
    """The text between shared runs."""
    spans = word_spans(text)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shared, [False]]).astype(np.int8)))
    begin = 0
    for first, after in edges.reshape(-1, 2):
        yield text[begin : spans[first][0]]
        begin = spans[after - 1][1]
    yield text[begin:]
