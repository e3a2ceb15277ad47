"""Words, hashes of runs of them and sets of such hashes: what near-duplicates and contamination are defined by.

A word is a run of letters, digits and underscores, lower-cased, or a run of other visible characters: code counts by
its punctuation too, and white space and case never tell two texts apart. In scripts written without spaces (Chinese,
Japanese, Thai, Lao, Burmese, Khmer) every character is a word: a clause taken for one word would hide any copy of it
that differs in a character.
"""

import hashlib
import re
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9f"  # radicals, kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # ideographs
)
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORD = re.compile(r"\w+|[^\w\s]+")
_WORD_OR_CHARACTER = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s{_UNSPACED}]+")
# An odd multiplier: powers of it and their inverses exist modulo 2^64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_CACHED_WORDS = 1 << 20

Hashes = NDArray[np.uint64]


def _pattern(text: str) -> re.Pattern[str]:
    """The quick pattern where it cuts the same words as the full one."""
    return _WORD if text.isascii() or not _ANY_UNSPACED.search(text) else _WORD_OR_CHARACTER


def split_words(text: str) -> list[str]:
    """Words of a text, in order."""
    return [word.lower() for word in _pattern(text).findall(text)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word starts and ends in the text, in characters."""
    return [match.span() for match in _pattern(text).finditer(text)]


class _WordHashes(dict[str, int]):
    """Hash of each word as written, made once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        value = int.from_bytes(hashlib.blake2b(word.lower().encode(), digest_size=8).digest(), "little")
        self[word] = value
        return value


_hash_of_word = _WordHashes()


def hash_words(text: str) -> Hashes:
    """A 64-bit hash of each word, [words]."""
    words = _pattern(text).findall(text)
    return np.fromiter(map(_hash_of_word.__getitem__, words), dtype=np.uint64, count=len(words))


class _Powers:
    """Powers of the base and of its inverse, made as far as the longest text needs."""

    def __init__(self) -> None:
        self._up = self._down = np.ones(1, dtype=np.uint64)

    def up_to(self, count: int) -> tuple[Hashes, Hashes]:
        """(base^i, base^−i) for i < count, modulo 2^64."""
        if count > self._up.size:
            size = max(count, 2 * self._up.size)
            self._up, self._down = (
                np.cumprod(np.append(np.ones(1, dtype=np.uint64), np.full(size - 1, base)), dtype=np.uint64)
                for base in (np.uint64(_BASE), np.uint64(_INVERSE))
            )
        return self._up[:count], self._down[:count]


_powers = _Powers()


def hash_runs(words: Hashes, length: int) -> Hashes:
    """A 64-bit hash of each run of `length` words, [words − length + 1].

    A polynomial hash (Karp and Rabin, 1987) from prefix sums: the same few operations for every length.
    """
    count = words.size - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    up, down = _powers.up_to(words.size)
    prefixes = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(words * up, dtype=np.uint64)])
    runs = (prefixes[length:] - prefixes[:-length]) * down[:count]
    runs = (runs ^ (runs >> np.uint64(32))) * _MIX
    mixed: Hashes = runs ^ (runs >> np.uint64(29))
    return mixed


Numbers = NDArray[np.int64]
FILTER_BITS_LIMIT = 26
FILTER_SLOTS_EACH = 16
Array = TypeVar("Array", NDArray[np.uint64], NDArray[np.int64])


class HashSet:
    """Sorted hashes behind a filter of one byte a slot: most hashes of a training text are in no holdout, and a look
    into a small table tells that faster than a binary search in a large one."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = sorted_unique(hashes)
        slots = FILTER_SLOTS_EACH * max(self.hashes.size, 1)
        self._shift = np.uint64(64 - min(FILTER_BITS_LIMIT, max(10, slots.bit_length())))
        self._filter = np.zeros(1 << (64 - int(self._shift)), dtype=bool)
        self._filter[self._slots(self.hashes)] = True

    def __len__(self) -> int:
        return int(self.hashes.size)

    def _slots(self, hashes: Hashes) -> Numbers:
        return (hashes >> self._shift).astype(np.int64)

    def find(self, hashes: Hashes) -> tuple[Numbers, Numbers]:
        """(where in `hashes`, which member) of every hash that is in the set."""
        at = np.flatnonzero(self._filter[self._slots(hashes)])
        candidates = hashes[at]
        which = np.minimum(np.searchsorted(self.hashes, candidates), max(len(self) - 1, 0))
        found = self.hashes[which] == candidates if len(self) else np.zeros(at.size, dtype=bool)
        return at[found], which[found]


def sorted_unique(values: Array) -> Array:
    """The different values, sorted; several times as fast as numpy.unique, which hashes."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if ordered.size else ordered
