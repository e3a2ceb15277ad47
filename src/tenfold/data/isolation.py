"""What it means that a training text has something of a held-out one. Build and audit both keep to it.

Three rules, from exact to approximate:

1. *Runs.* A training text has no run of n words of a held-out text, n = `ngram` (13), or all the words of a held-out
   text that has fewer (Brown et al., arXiv 2005.14165, appendix C, cap n by the length of the text too). Below FEWEST
   words a run is common speech: such a text is looked for as a whole document only.
2. *Near-copied passages.* Where every twelfth word is changed no run of 13 is left and the text is still there. So a
   passage of WINDOW words is a near-copy when at least SHARE of its runs of SHINGLE words stand in one and the same
   held-out text. A run counts once a window, because tables and code repeat themselves; a run that many held-out texts
   have counts for the first OWNERS of them.
3. *Copies.* A document made by half of such runs and passages is a copy.

Training text loses what breaks them. A document loses shared runs and near-copied passages and is split where they
stood, so that no new run can form across a cut; a copy is dropped whole. What is left is looked at again until nothing
is found, so every piece keeps the rules by itself. Lee et al., arXiv 2107.06499, use runs of 50 tokens.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.data.words import HashSet, hash_runs, hash_words, sorted_unique, word_spans

SHINGLE = 5  # words
WINDOW = 60  # shingles
SHARE = 0.45
FEWEST_SHARED = 10  # shingles; a text that has fewer is only looked for by its runs
OWNERS = 16
FEWEST = 5  # words
COPY_SHARE = 0.5


def window_of(words: int) -> tuple[int, int]:
    """(window in shingles, shared shingles that make it a near-copy) for a held-out text of so many words."""
    window = max(1, min(WINDOW, words - SHINGLE + 1))
    return window, max(FEWEST_SHARED, math.ceil(SHARE * window))


Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Decontaminated:
    """What is left of a document: pieces of text, in order, and whether anything was taken."""

    pieces: list[str]
    touched: bool


class HeldOutText:
    """All held-out text, given as word hashes, one array a document; earlier documents own what many share."""

    def __init__(self, documents: Sequence[Hashes], ngram: int) -> None:
        self._whole = {words.tobytes() for words in documents if 0 < words.size < FEWEST}
        self._runs = list(_runs_by_length(documents, ngram))
        self._passages = _Passages(documents)

    def shared_words(self, words: Hashes) -> Mask:
        """For each word of a document, whether it is taken: in a shared run or a near-copied passage."""
        if words.tobytes() in self._whole:
            return np.ones(words.size, dtype=bool)
        marks = np.zeros(words.size + 1, dtype=np.int32)
        for length, runs in self._runs:
            starts, _ = runs.find(hash_runs(words, length))
            _mark(marks, starts, starts + length)
        _mark(marks, *self._passages.find(words))
        return np.cumsum(marks[:-1]) > 0


def _mark(marks: NDArray[np.int32], starts: Numbers, ends: Numbers) -> None:
    """Note stretches; the running sum tells how many stand over each word."""
    np.add.at(marks, starts, 1)
    np.add.at(marks, ends, -1)


def _runs_by_length(documents: Sequence[Hashes], ngram: int) -> Iterator[tuple[int, HashSet]]:
    """The runs to look for: of `ngram` words, and of all words of documents that have fewer."""
    lengths = [min(ngram, words.size) for words in documents]
    for length in sorted({length for length in lengths if length >= FEWEST}):
        runs = [hash_runs(words, length) for words, own in zip(documents, lengths, strict=True) if own == length]
        yield length, HashSet(np.concatenate(runs))


class _Passages:
    """Finds passages that share many shingles with one held-out document."""

    def __init__(self, documents: Sequence[Hashes]) -> None:
        each = [sorted_unique(hash_runs(words, SHINGLE)) for words in documents]
        shingles = np.concatenate([np.empty(0, dtype=np.uint64), *each])
        owners = np.repeat(np.arange(len(each)), [own.size for own in each])
        self._set = HashSet(shingles)
        order = np.argsort(shingles, kind="stable")  # owners of a shingle stay in their order
        members = np.searchsorted(self._set.hashes, shingles[order])
        first = np.searchsorted(members, np.arange(len(self._set)))
        kept = np.arange(members.size) - first[members] < OWNERS
        self._owners = owners[order][kept]
        self._starts = np.searchsorted(members[kept], np.arange(len(self._set) + 1))
        rules = np.asarray([window_of(words.size) for words in documents], dtype=np.int64).reshape(-1, 2)
        self._windows, self._needed = rules[:, 0], rules[:, 1]

    def find(self, words: Hashes) -> tuple[Numbers, Numbers]:
        """(first word, word after the last) of passages that are near-copies; they overlap."""
        at, which = _once_a_window(*self._set.find(hash_runs(words, SHINGLE)))
        counts = self._starts[which + 1] - self._starts[which]
        positions = np.repeat(at, counts)
        begins = np.repeat(self._starts[which] - (np.cumsum(counts) - counts), counts)
        owners = self._owners[begins + np.arange(positions.size)]
        order = np.argsort(owners * np.int64(words.size + 1) + positions)
        positions, owners = positions[order], owners[order]
        last = np.arange(positions.size) + self._needed[owners] - 1
        first = np.flatnonzero(last < positions.size)
        last = last[first]
        near = (owners[last] == owners[first]) & (positions[last] - positions[first] < self._windows[owners[first]])
        return positions[first[near]], positions[last[near]] + SHINGLE


def _once_a_window(at: Numbers, which: Numbers) -> tuple[Numbers, Numbers]:
    """Shingles that did not stand in the WINDOW words before."""
    order = np.lexsort((at, which))
    again = (np.diff(which[order]) == 0) & (np.diff(at[order]) < WINDOW)
    kept = np.sort(order[np.concatenate([[True], ~again])]) if at.size else order
    return at[kept], which[kept]


def decontaminate(text: str, words: Hashes, held_out: HeldOutText, min_bytes: int) -> Decontaminated:
    """Take out of `text` what a holdout has too; pieces shorter than `min_bytes` go as well."""
    shared = held_out.shared_words(words)
    if not shared.any():
        return Decontaminated([text], touched=False)
    if shared.mean() >= COPY_SHARE:
        return Decontaminated([], touched=True)
    pieces: list[str] = []
    for piece in _cut(text, shared):
        if len(piece.encode()) >= min_bytes:
            pieces += decontaminate(piece, hash_words(piece), held_out, min_bytes).pieces
    return Decontaminated(pieces, touched=True)


def _cut(text: str, shared: Mask) -> Iterator[str]:
    """The text between what is shared."""
    spans = word_spans(text)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shared, [False]]).astype(np.int8)))
    begin = 0
    for first, after in edges.reshape(-1, 2):
        yield text[begin : spans[first][0]]
        begin = spans[after - 1][1]
    yield text[begin:]
