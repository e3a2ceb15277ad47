"""Numbers for the words and runs of some texts, compared word by word: two runs have one number when they are the same.

A run of any length is told by two runs of 1, 2, 4, 8 … words that cover it, the first ones and the last ones; so a few
tables of pairs of numbers know every run, and nothing is hashed.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from tenfold.data.words import sorted_unique

Numbers = NDArray[np.int64]
UNKNOWN = -1
_MANY = 4096  # keys that are sorted before they are looked for among as many


class WordNumbers:
    """A number for each different word of some texts."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        different = dict.fromkeys(chain.from_iterable(documents))
        self._numbers = dict(zip(different, range(len(different)), strict=True))

    def of(self, words: Sequence[str]) -> Numbers:
        """The number of each word, UNKNOWN for others, [words]."""
        numbers = map(self._numbers.get, words, repeat(UNKNOWN))
        return np.fromiter(numbers, dtype=np.int64, count=len(words))


class Levels:
    """Numbers for every run of 2, 4, 8 … words of a text, which is given as numbers of words.

    Several texts make one, with UNKNOWN between them.
    """

    def __init__(self, row: Numbers, longest: int) -> None:
        self._tables: list[Numbers] = []
        self.own = [row]
        """What `of` gives for the text itself."""
        while 2 << len(self._tables) <= longest:
            keys = _neighbours(self.own[-1], 1 << len(self._tables))
            table, numbers = _numbered(keys)
            self._tables.append(table)
            self.own.append(numbers)

    def of(self, row: Numbers) -> list[Numbers]:
        """The number of each run of 1, 2, 4 … words of a text, UNKNOWN for runs that the texts do not have."""
        found = [row]
        for level, table in enumerate(self._tables):
            found.append(_look_up(table, _neighbours(found[-1], 1 << level)))
        return found


class RunNumbers:
    """Numbers for the runs that a text has, given by its levels and by where its runs end."""

    def __init__(self, levels: list[Numbers], ends: Numbers) -> None:
        self._tables: dict[int, Numbers] = {}
        self._first: dict[int, int] = {}
        self.count = 0
        """How many different runs the text has."""
        self.own = np.full(ends.size, UNKNOWN)
        """What `of` gives for the text itself."""
        for count, at, keys in _keys(levels, ends):
            table, numbers = _numbered(keys)
            self._tables[count], self._first[count] = table, self.count
            self.own[at] = np.where(numbers == UNKNOWN, UNKNOWN, numbers + self.count)
            self.count += table.size

    def of(self, levels: list[Numbers], ends: Numbers) -> Numbers:
        """The number of each run of a text, [runs]; UNKNOWN for runs that the first text does not have."""
        numbers = np.full(ends.size, UNKNOWN)
        for count, at, keys in _keys(levels, ends):
            if count in self._tables:
                found = _look_up(self._tables[count], keys)
                numbers[at] = np.where(found == UNKNOWN, UNKNOWN, found + self._first[count])
        return numbers


def words_of_runs(ends: Numbers) -> Numbers:
    """How many words the run from each word on has, given where it ends."""
    return ends - np.arange(ends.size)


def _keys(levels: list[Numbers], ends: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
    """(words, where, key) of the runs of a text, those of as many words together."""
    words = words_of_runs(ends)
    for count in sorted_unique(words).tolist():
        level = count.bit_length() - 1
        if level < len(levels):  # else longer than any run of the text that is known
            at = np.flatnonzero(words == count)
            yield count, at, _pairs(levels[level][at], levels[level][at + count - (1 << level)])


def _pairs(first: Numbers, second: Numbers) -> Numbers:
    """One key for each two numbers, which are below 2^31; UNKNOWN where either is."""
    return np.where((first == UNKNOWN) | (second == UNKNOWN), UNKNOWN, (first << 32) | second)


def _neighbours(row: Numbers, offset: int) -> Numbers:
    """Keys for the numbers at i and i + offset."""
    return _pairs(row[:-offset], row[offset:])


def _numbered(keys: Numbers) -> tuple[Numbers, Numbers]:
    """All different keys but UNKNOWN, sorted, and which of them each is."""
    numbers = np.full_like(keys, UNKNOWN)
    at = np.flatnonzero(keys != UNKNOWN)
    at = at[np.argsort(keys[at])]
    ordered = keys[at]
    is_new = np.ones(at.size, dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    numbers[at] = np.cumsum(is_new) - 1
    return ordered[is_new], numbers


def _look_up(table: Numbers, keys: Numbers) -> Numbers:
    """Where each key stands in a sorted table, UNKNOWN for those that do not."""
    found = np.full_like(keys, UNKNOWN)
    at = np.flatnonzero(keys != UNKNOWN)
    if table.size and at.size:
        wanted = keys[at]
        if min(at.size, table.size) > _MANY:
            order = np.argsort(wanted)
            at, wanted = at[order], wanted[order]
        places = np.minimum(np.searchsorted(table, wanted), table.size - 1)
        found[at] = np.where(table[places] == wanted, places, UNKNOWN)
    return found
