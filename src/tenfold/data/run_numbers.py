"""A number for every run of words that a set of texts has, so that equal numbers mean equal words.

Every word gets a number, every run of 2, 4, 8 … words a number made of its two halves' numbers (Karp, Miller and
Rosenberg, STOC 1972): no hashes of runs, so no chance of a collision.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tenfold.data.hash_set import sorted_unique

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


class Levels:
    """Numbers for every run of 2, 4, 8 … words of some texts, which are given as numbers of words."""

    def __init__(self, rows: Sequence[Numbers], longest: int) -> None:
        self._tables: list[Numbers] = []
        while 2 << len(self._tables) <= longest:
            keys = [_pairs(row, 1 << len(self._tables)) for row in rows]
            self._tables.append(_different(keys))
            rows = [_look_up(self._tables[-1], key) for key in keys]

    def of(self, row: Numbers) -> list[Numbers]:
        """The number of each run of 1, 2, 4 … words of a text, UNKNOWN for runs that the texts do not have."""
        found = [row]
        for level, table in enumerate(self._tables):
            found.append(_look_up(table, _pairs(found[-1], 1 << level)))
        return found


class RunNumbers:
    """Numbers for every run of `length` words that some texts, given by their levels, have."""

    def __init__(self, texts: Sequence[list[Numbers]], length: int) -> None:
        self._level = length.bit_length() - 1
        self._offset = length - (1 << self._level)
        keys = [_pairs(levels[self._level], self._offset) for levels in texts]
        self._table = _different(keys)
        self.of_documents = [_look_up(self._table, key) for key in keys]

    @property
    def count(self) -> int:
        """Different runs."""
        return int(self._table.size)

    def of(self, levels: list[Numbers]) -> Numbers:
        """The number of each run of a text, [words − length + 1]; UNKNOWN for runs that the texts do not have."""
        return _look_up(self._table, _pairs(levels[self._level], self._offset))


def _different(keys: Sequence[Numbers]) -> Numbers:
    """All different keys but UNKNOWN, sorted."""
    return sorted_unique(np.concatenate([np.empty(0, dtype=np.int64), *(key[key != UNKNOWN] for key in keys)]))


def _pairs(row: Numbers, offset: int) -> Numbers:
    """One key for the numbers at i and i + offset; UNKNOWN where either is. Numbers stay below 2^31."""
    if not offset:
        return row
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
