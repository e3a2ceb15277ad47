"""In how many training documents each run of the held-out text stands: what is common, and so no leak of one document.

Windows are the runs and shingles of the held-out documents. They are few, however large the corpus is, so their
frequency is a vector that each part of the corpus counts by itself; vectors are added in any order.

A window is common when more than MANY documents of the sources have it (Brown et al., arXiv 2005.14165, appendix C,
leave 13-grams alone that more than 10 training documents have: phrases, legal text, boilerplate), or in a small corpus
more than a twentieth of them, but more than FEW. Two things are harder to call common:

- A window of a *given* evaluation set: a question that was copied to eleven places is a leak. More than MANY training
  documents must have it and more than MANY of the held-out ones too, as the frame of all questions is, or a hundredth
  of the training documents, as a licence is. In a small corpus, or set, half of the documents are many.
- A *shingle*: in a large corpus most runs of five words stand in some documents, so a thousandth of them must have it.

What counts is what the training documents have before anything is taken out of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenfold.data.words import WORD, HashSet, hash_runs, measured_runs, run_ends, runs_at, sizes, sorted_unique

SHINGLE = 5  # words, whatever they count for
FEWEST = 5  # words
MANY = 10  # documents
FEW = 3
SMALL_SPLIT = 0.05
SMALL_SET = 0.5
COMMON_GIVEN = 0.01
COMMON_SHINGLE = 0.001

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOutDocument:
    """A held-out document by its word hashes. `given`: of an evaluation set, not of a split of the sources."""

    words: Hashes
    given: bool


@dataclass(frozen=True)
class Hits:
    """Windows of one kind that a document has: their first word, the word after their last, their numbers, [hits].

    `length` is that of a run in words; 0 says that these are shingles.
    """

    length: int
    starts: Numbers
    ends: Numbers
    numbers: Numbers


def different(hits: Sequence[Hits]) -> Numbers:
    """Numbers of the windows that a document has, sorted."""
    return sorted_unique(np.concatenate([hit.numbers for hit in hits]))


class Windows:
    """Every run and shingle of the held-out documents, numbered: runs by their length, then shingles."""

    def __init__(self, documents: Sequence[HeldOutDocument], ngram: int) -> None:
        self.ngram = ngram
        self.documents = [document.words for document in documents]
        self.given = np.asarray([document.given for document in documents], dtype=bool)
        self.whole = {words.tobytes() for words in self.documents if words.size > 0 and _length(words) < FEWEST}
        """Word hashes of documents too short for a run."""
        self._lengths = [run_length(words, ngram) for words in self.documents]
        self._sets: list[tuple[int, HashSet]] = []
        self._own: dict[int, list[Numbers]] = {}
        """By length, the numbers of the windows of each document whose runs are of that length, in order."""
        for length in sorted({length for length in self._lengths if length >= FEWEST}):
            own = [words if longest == length else words[:0] for words, longest in self._documents()]
            self._sets.append((length, self._number(length, [measured_runs(words, length)[0] for words in own])))
        self._shingles = self._number(0, [hash_runs(words, SHINGLE) for words in self.documents])

    def _documents(self) -> Iterator[tuple[Hashes, int]]:
        """(words, length of runs) of each document."""
        return zip(self.documents, self._lengths, strict=True)

    def _number(self, length: int, rows: Sequence[Hashes]) -> HashSet:
        """The windows in these rows, one row a document; numbered on from those of other lengths."""
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *rows])
        windows = HashSet(hashes)
        numbers = (windows.numbers_of(hashes) + self.first_shingle).astype(np.int32)  # of the runs so far
        self._own[length] = np.split(numbers, np.cumsum([row.size for row in rows])[:-1])
        return windows

    @property
    def shingles(self) -> int:
        """How many different shingles there are."""
        return len(self._shingles)

    @property
    def first_shingle(self) -> int:
        """Number of the first shingle; runs have the numbers before."""
        return sum(len(runs) for _, runs in self._sets)

    def __len__(self) -> int:
        return self.first_shingle + self.shingles

    def hits(self, words: Hashes) -> list[Hits]:
        """Where a document has windows: one entry for each length of runs, the last one for shingles."""
        shingles, which = self._shingles.find(hash_runs(words, SHINGLE))
        found, offset = [], 0
        for length, runs in self._sets:
            # A run has FEWEST words at least, and so it begins with a shingle of the text that it is of.
            starts, hashes, ends = runs_at(words, length, shingles)
            at, members = runs.find(hashes)
            found.append(Hits(length, starts[at], ends[at], members + offset))
            offset += len(runs)
        return [*found, Hits(0, shingles, shingles + SHINGLE, which + offset)]

    def hits_of(self, document: int) -> list[Hits]:
        """`hits` of a held-out document, of which most need not be looked for."""
        words, longest, found, offset = self.documents[document], self._lengths[document], [], 0
        for length, runs in self._sets:
            numbers, ends = self._own[length][document].astype(np.int64), run_ends(sizes(words), length)
            starts = np.arange(numbers.size)
            if length != longest:
                starts, which = runs.find(measured_runs(words, length)[0])
                numbers = which + offset
            found.append(Hits(length, starts, ends[starts], numbers))
            offset += len(runs)
        numbers = self._own[0][document].astype(np.int64)
        starts = np.arange(numbers.size)
        return [*found, Hits(0, starts, starts + SHINGLE, numbers)]

    def found(self, words: Hashes) -> Numbers:
        """Numbers of the windows that a document has, sorted."""
        return different(self.hits(words))

    def places_of(self, chosen: Mask) -> Numbers:
        """Where each chosen window stands first: (length, 0 for shingles; document; first word), [chosen, 3]."""
        rows = [np.empty((0, 4), dtype=np.int64)]
        for document in range(len(self.documents)):
            for hit in self.hits_of(document):
                at = np.flatnonzero(chosen[hit.numbers])
                where = np.full(at.size, hit.length), np.full(at.size, document), hit.starts[at]
                rows.append(np.stack([hit.numbers[at], *where], axis=1))
        found = np.concatenate(rows)
        _, first = np.unique(found[:, 0], return_index=True)
        places: Numbers = found[first, 1:]
        return places


def _length(words: Hashes) -> int:
    """How many whole words a text counts for."""
    return int(sizes(words).sum()) // WORD


def run_length(words: Hashes, ngram: int) -> int:
    """How long runs of a held-out document are."""
    return min(ngram, _length(words))


@dataclass(frozen=True)
class Frequencies:
    """In how many of `documents` documents each window stands, [windows]. Those of parts of a corpus are added."""

    counts: Numbers
    documents: int

    @classmethod
    def of(cls, windows: Windows, found: Iterable[Numbers]) -> "Frequencies":
        """Count documents, each given by the windows it has (`Windows.found`)."""
        counts, documents = np.zeros(len(windows), dtype=np.int64), 0
        for numbers in found:
            counts[numbers] += 1
            documents += 1
        return cls(counts, documents)

    def __add__(self, other: "Frequencies") -> "Frequencies":
        return Frequencies(self.counts + other.counts, self.documents + other.documents)


def many(documents: int, share: float) -> float:
    """What more documents than this have is common, of so many: MANY, or a share of a small corpus."""
    return max(FEW, min(MANY, share * documents))


def common_windows(windows: Windows, training: Frequencies) -> Mask:
    """Which windows are common, by what all training documents have, [windows]."""
    drawn, given = (_held_out(windows, windows.given == kind) for kind in (False, True))
    counts, documents = training.counts, training.documents
    shingle = np.arange(len(windows)) >= windows.first_shingle
    least = np.where(shingle, COMMON_SHINGLE * documents, 0)
    of_sources = training + drawn
    by_sources: Mask = of_sources.counts > np.maximum(least, many(of_sources.documents, SMALL_SPLIT))
    frame = (given.counts > many(given.documents, SMALL_SET)) | (counts > COMMON_GIVEN * documents)
    by_sets: Mask = frame & (counts > np.maximum(least, many(documents, SMALL_SET)))
    common: Mask = np.where(given.counts > 0, by_sets, by_sources)
    return common


def _held_out(windows: Windows, chosen: Mask) -> Frequencies:
    found = (different(windows.hits_of(number)) for number in np.flatnonzero(chosen).tolist())
    return Frequencies.of(windows, found)
