"""What it means that a training text has something of a held-out one. Build and audit both keep to it.

Rules, from exact to approximate:

1. *Runs.* A training text has no run of n words of a held-out text, n = `ngram` (13), or all the words of a held-out
   text that has fewer (Brown et al., arXiv 2005.14165, appendix C, cap n by the length of the text too). Where a script
   has no spaces a run is as long as n words are (`words`). Below FEWEST words a run is common speech: such a text is
   looked for as a whole document only.
2. *Near-copied passages.* Where every twelfth word is changed no run of 13 is left and the text is still there. So a
   passage of WINDOW words is a near-copy when at least SHARE of its runs of SHINGLE words stand in one and the same
   held-out text. A run counts once a window, because tables and code repeat themselves; a run that many held-out texts
   have counts for the first OWNERS of them.
3. *Copies.* A document made by half of such runs and passages is a copy.
4. *What is common is no leak.* The frame of a dialogue, a system prompt, a licence stand in many training documents and
   would be cut out of all of them and kept in the holdout (`frequency`). Words that stand in a common run or shingle
   count for nothing: a run is shared when half of its words are not common, a passage is measured by what is not
   common in it, and so is a copy.

Training text loses what breaks them. A document loses shared runs and near-copied passages and is split where they
stood, so that no new run can form across a cut; a copy is dropped whole. What is left is looked at again until nothing
is found, so every piece keeps the rules by itself. A piece that says little of its own is dropped, and so is a document
that would be shredded. Lee et al., arXiv 2107.06499, use runs of 50 tokens.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.data.frequency import SHINGLE, Hits, Windows
from tenfold.data.words import WORD, hash_words, sizes, sorted_unique, word_spans

WINDOW = 60  # shingles
SHARE = 0.45
FEWEST_SHARED = 10  # shingles; a text that has fewer is only looked for by its runs
OWNERS = 16
COPY_SHARE = 0.5
PIECE_BYTES = 200  # as Brown et al. have it
MOST_PIECES = 10
MEAN_PIECE_BYTES = 2048

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
NOTHING: Numbers = np.empty(0, dtype=np.int64)


def window_of(shingles: int) -> tuple[int, int]:
    """(window, shared ones that make it a near-copy) for a held-out text of so many shingles that are not common."""
    window = max(1, min(WINDOW, shingles))
    return window, max(FEWEST_SHARED, math.ceil(SHARE * window))


def own_words(length: int) -> int:
    """What the words of a run of `length` words that are not common count for at least, for it to be shared."""
    return (length + 1) // 2 * WORD


@dataclass(frozen=True)
class Decontaminated:
    """What is left of a document: pieces of text, in order, and whether anything was taken."""

    pieces: list[str]
    touched: bool


@dataclass(frozen=True)
class SharedWords:
    """What a document has of the held-out text: which of its words are taken, which stand in something common."""

    shared: Mask
    common: Mask

    @property
    def is_copy(self) -> bool:
        """Whether what is not common of the document is held-out text by half."""
        own = ~self.common
        return bool((self.shared & own).sum() >= COPY_SHARE * own.sum() > 0)


class HeldOutText:
    """All held-out text and which of its windows are common; earlier documents own what many share."""

    def __init__(self, windows: Windows, common: Mask) -> None:
        self.windows, self.common = windows, common
        self._passages = _Passages(windows, common)

    def look(self, words: Hashes) -> SharedWords:
        """What is to be taken of a document, given by its words."""
        if words.tobytes() in self.windows.whole:
            return SharedWords(np.ones(words.size, dtype=bool), np.zeros(words.size, dtype=bool))
        hits = self.windows.hits(words)
        if self._are_too_few(hits):
            return SharedWords(*np.zeros((2, words.size), dtype=bool))
        common = covered(hits, self.common, words.size)
        marks = np.zeros(words.size + 1, dtype=np.int32)
        own = np.concatenate([[0], np.cumsum(np.where(common, 0, sizes(words)))])
        for hit in hits[:-1]:
            shared = ~self.common[hit.numbers] & (own[hit.ends] - own[hit.starts] >= own_words(hit.length))
            _mark(marks, hit.starts[shared], hit.ends[shared])
        _mark(marks, *self._passages.find(hits[-1], common))
        return SharedWords(_without_common_ends(np.cumsum(marks[:-1]) > 0, common), common)

    def _are_too_few(self, hits: Sequence[Hits]) -> bool:
        """Whether these cannot make a shared run or a near-copied passage, by a look at where they stand."""
        *runs, shingles = hits
        if any(run.starts.size for run in runs):
            return False
        starts = shingles.starts
        if starts.size < FEWEST_SHARED:
            return True
        near = starts[FEWEST_SHARED - 1 :] - starts[: 1 - FEWEST_SHARED] < WINDOW
        return not near.any() and not self.common[shingles.numbers].any()  # what is common does not count as distance


def covered(hits: Sequence[Hits], common: Mask, words: int) -> Mask:
    """For each word, whether it stands in a common run or shingle."""
    marks = np.zeros(words + 1, dtype=np.int32)
    for hit in hits:
        chosen = common[hit.numbers]
        _mark(marks, hit.starts[chosen], hit.ends[chosen])
    return np.cumsum(marks[:-1]) > 0


def _mark(marks: NDArray[np.int32], starts: Numbers, ends: Numbers) -> None:
    """Note stretches; the running sum tells how many stand over each word."""
    np.add.at(marks, starts, 1)
    np.add.at(marks, ends, -1)


def _stretches(mask: Mask) -> Numbers:
    """First and after the last of each stretch of true, [stretches, 2]."""
    return np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)


def _without_common_ends(shared: Mask, common: Mask) -> Mask:
    """Shared stretches without the common words they begin and end with, so that a frame stays whole."""
    own = np.flatnonzero(shared & ~common)
    kept = np.zeros_like(shared)
    for first, after in _stretches(shared):
        low, high = np.searchsorted(own, [first, after])
        kept[own[low] : own[high - 1] + 1] = True
    return kept


class _Passages:
    """Finds passages that share many shingles with one held-out document."""

    def __init__(self, windows: Windows, common: Mask) -> None:
        """What each shingle is owned by, and the rule for each held-out document."""
        self._common, self._first = common, windows.first_shingle
        shingles, owners, rules = [NOTHING], [NOTHING], []
        for document, words in enumerate(windows.documents):
            hits = windows.hits_of(document)
            mask = covered(hits, common, words.size)
            own = sorted_unique(hits[-1].numbers - self._first)
            shingles.append(own)
            owners.append(np.full(own.size, document))
            rules.append(window_of(max(0, words.size - SHINGLE + 1) - int(_is_common(mask).sum())))
        numbers, owned = np.concatenate(shingles), np.concatenate(owners)
        order = np.argsort(numbers, kind="stable")  # owners of a shingle stay in their order
        numbers, owned = numbers[order], owned[order]
        kept = np.arange(numbers.size) - np.searchsorted(numbers, numbers) < OWNERS
        self._owners = owned[kept]
        self._starts = np.searchsorted(numbers[kept], np.arange(windows.shingles + 1))
        table = np.asarray(rules, dtype=np.int64).reshape(-1, 2)
        self._windows, self._needed = table[:, 0], table[:, 1]

    def find(self, hit: Hits, common: Mask) -> tuple[Numbers, Numbers]:
        """(first word, word after the last) of passages that are near-copies; they overlap."""
        skipped = _is_common(common)
        own = ~skipped[hit.starts]
        rank = np.arange(skipped.size) - np.cumsum(skipped)  # how many shingles before are not common
        at, which = _once_a_window(rank[hit.starts[own]], hit.numbers[own] - self._first)
        counts = self._starts[which + 1] - self._starts[which]
        positions = np.repeat(at, counts)
        begins = np.repeat(self._starts[which] - (np.cumsum(counts) - counts), counts)
        owners = self._owners[begins + np.arange(positions.size)]
        order = np.argsort(owners * np.int64(rank.size + 1) + positions)
        positions, owners = positions[order], owners[order]
        last = np.arange(positions.size) + self._needed[owners] - 1
        first = np.flatnonzero(last < positions.size)
        last = last[first]
        near = (owners[last] == owners[first]) & (positions[last] - positions[first] < self._windows[owners[first]])
        starts = np.flatnonzero(~skipped)
        return starts[positions[first[near]]], starts[positions[last[near]]] + SHINGLE


def _is_common(common: Mask) -> Mask:
    """For each shingle of a document, whether all its words are common, [shingles]."""
    if common.size < SHINGLE:
        return np.zeros(0, dtype=bool)
    before = np.concatenate([[0], np.cumsum(common)])
    whole: Mask = before[SHINGLE:] - before[:-SHINGLE] == SHINGLE
    return whole


def _once_a_window(at: Numbers, which: Numbers) -> tuple[Numbers, Numbers]:
    """Shingles that did not stand in the WINDOW words before."""
    order = np.lexsort((at, which))
    again = (np.diff(which[order]) == 0) & (np.diff(at[order]) < WINDOW)
    kept = np.sort(order[np.concatenate([[True], ~again])]) if at.size else order
    return at[kept], which[kept]


def decontaminate(text: str, words: Hashes, held_out: HeldOutText, min_bytes: int) -> Decontaminated:
    """Take out of `text` what a holdout has too; a document that is cut loses pieces shorter than `min_bytes` too.

    A pure function of the document and of `held_out`, so documents may be taken in any order and anywhere.
    """
    pieces = _kept(text, words, held_out, max(min_bytes, PIECE_BYTES))
    if len(pieces) > MOST_PIECES and sum(len(piece.encode()) for piece in pieces) < MEAN_PIECE_BYTES * len(pieces):
        pieces = []
    return Decontaminated(pieces, touched=pieces != [text])


def _kept(text: str, words: Hashes, held_out: HeldOutText, min_bytes: int) -> list[str]:
    """Pieces that have nothing of the held-out text any more."""
    look = held_out.look(words)
    if not look.shared.any():
        return [text]
    if look.is_copy:
        return []
    pieces: list[str] = []
    for piece, own in _cut(text, look, sizes(words)):
        if own >= held_out.windows.ngram * WORD and len(piece.encode()) >= min_bytes:
            pieces += _kept(piece, hash_words(piece), held_out, min_bytes)
    return pieces


def _cut(text: str, look: SharedWords, counted: Numbers) -> Iterator[tuple[str, int]]:
    """The text between what is shared, and what the words in it count for that are not common."""
    spans = word_spans(text)
    own = np.concatenate([[0], np.cumsum(np.where(look.common, 0, counted))])
    begin = word = 0
    for first, after in _stretches(look.shared):
        yield text[begin : spans[first][0]], int(own[first] - own[word])
        begin, word = spans[after - 1][1], after
    yield text[begin:], int(own[-1] - own[word])
