"""A number for every run of words that a set of texts has, so that equal numbers mean equal words.

Every word gets a number, every run of 2, 4, 8 … words a number made of its two halves' numbers (Karp, Miller and
Rosenberg, STOC 1972): no hashes of runs, so no chance of a collision.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
UNKNOWN = -1


class WordNumbers:
    """A number for each different word of some texts."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self._numbers: dict[str, int] = {}
        for word in (word for document in documents for word in document):
            self._numbers.setdefault(word, len(self._numbers))

    def of(self, words: Sequence[str]) -> Numbers:
        """The number of each word, UNKNOWN for others, [words]."""
        number_of = self._numbers.get
        return np.fromiter((number_of(word, UNKNOWN) for word in words), dtype=np.int64, count=len(words))


class RunNumbers:
    """Numbers for every run of `length` words that texts (given as numbers of words) have; all others are UNKNOWN."""

    def __init__(self, rows: Sequence[Numbers], length: int) -> None:
        self._offsets = _offsets(length)
        self._tables: list[Numbers] = []
        for offset in self._offsets:
            keys = [_pairs(row, offset) for row in rows]
            known = [key[key != UNKNOWN] for key in keys]
            self._tables.append(np.unique(np.concatenate([np.empty(0, dtype=np.int64), *known])))
            rows = [_look_up(self._tables[-1], key) for key in keys]
        self.of_documents = rows

    @property
    def count(self) -> int:
        """Different runs."""
        return int(np.unique(np.concatenate([np.empty(0, dtype=np.int64), *self.of_documents])).size)

    def of(self, row: Numbers) -> Numbers:
        """The number of each run of a text, [words − length + 1]."""
        for offset, table in zip(self._offsets, self._tables, strict=True):
            row = _look_up(table, _pairs(row, offset))
        return row


def _offsets(length: int) -> list[int]:
    """How far apart the halves of a run stand at each level: 1, 2, 4, …, and at last what is missing to `length`."""
    offsets, reached = [], 1
    while reached < length:
        offset = min(reached, length - reached)
        offsets.append(offset)
        reached += offset
    return offsets


def _pairs(row: Numbers, offset: int) -> Numbers:
    """One key for the numbers at i and i + offset; UNKNOWN where either is. Numbers stay below 2^31."""
    if row.size <= offset:
        return np.empty(0, dtype=np.int64)
    first, second = row[:-offset], row[offset:]
    return np.where((first == UNKNOWN) | (second == UNKNOWN), UNKNOWN, (first << 32) | second)


def _look_up(table: Numbers, keys: Numbers) -> Numbers:
    found = np.full_like(keys, UNKNOWN)
    at = np.flatnonzero(keys != UNKNOWN)
    if table.size and at.size:
        wanted = keys[at]
        places = np.minimum(np.searchsorted(table, wanted), table.size - 1)
        found[at] = np.where(table[places] == wanted, places, UNKNOWN)
    return found
