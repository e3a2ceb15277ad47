"""Words, hashes of runs of them and sets of such hashes: what near-duplicates and contamination are defined by.

A word is a run of letters, digits and underscores with the marks over and under them, lower-cased, or a run of other
visible characters: code counts by its punctuation too, and white space and case never tell two texts apart.

In scripts written without spaces (Chinese, Japanese, Thai, Lao, Burmese, Khmer and others) every character is a word of
its own: a clause taken for one word would hide any copy of it that differs in a character, and cutting a clause into
words with a dictionary gives other words when something beside it changes. But a character says less than a word, so
runs are measured by what they say: an ideograph counts for half a word, a kana or a character of the others for a
third. These are about the shares that make a page in Chinese and in Japanese as long as the same page in English.
"""

import hashlib
import re
import unicodedata
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tenfold.data.ascii_words import WordTable, ascii_words, kinds_of_bytes

_IDEOGRAPHS = (
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00017000-\U00018d7f\U00020000-\U0003ffff"  # Tangut, ideographs beyond the first plane
)
_SYLLABLES = (
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # kana, bopomofo
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf\U00011700-\U0001174f"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet, Ahom
    "\ua980-\ua9df\u1b00-\u1b7f\ua000-\ua4cf"  # Javanese, Balinese, Yi
)
_UNSPACED = _IDEOGRAPHS + _SYLLABLES
_JOINERS = "\u200c\u200d"
_LAST_MARK = 0x1F000  # above are pictures, ideographs and their variation selectors
_SELECTORS = "\U000e0100-\U000e01ef"


def _spans(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Stretches of consecutive numbers, first and last."""
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        yield members[0], members[-1]


def _marks() -> str:
    """Marks that combine with the letter before them, and joiners: the inside of a character class."""
    numbers = (number for number in range(0x300, _LAST_MARK) if unicodedata.category(chr(number))[0] == "M")
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in _spans(numbers)) + _JOINERS + _SELECTORS


_MARKS = _marks()
_NEEDS_CARE = re.compile(f"[{_UNSPACED}{_MARKS}]")
_QUICK = re.compile(r"\w+|[^\w\s]+")
_CAREFUL = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|(?:[^\W{_UNSPACED}]+[{_MARKS}]*)+|[^\w\s{_UNSPACED}]+")
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_SYLLABLE = re.compile(f"[{_SYLLABLES}]")

WORD = 6
"""What a word counts for where runs are measured; an ideograph is half of it, a character of a syllabary a third."""
_SIZES = np.asarray([WORD, WORD // 2, WORD // 3, WORD], dtype=np.int64)
_CLASS_BITS = 2
# An odd multiplier: powers of it and their inverses exist modulo 2^64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_CACHED_WORDS = 1 << 20
REMEMBERED = 8 << 20
"""Characters of the texts whose words are remembered; with these at most 100 MB."""

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

LOWERED_BY_WORD = "\u0130\u03a3"
"""İ becomes two characters, and what Σ becomes depends on those around it; all others are lowered one by one, and stay
letters, marks or whatever they are."""


class _NeedsCare(dict[str, bool]):
    """Whether a character is a mark or of a script without spaces; the pattern is slow, and few are met."""

    def __missing__(self, character: str) -> bool:
        self[character] = needs_care = _NEEDS_CARE.match(character) is not None
        return needs_care


_needs_care = _NeedsCare()


def _pattern(text: str) -> re.Pattern[str]:
    """The quick pattern where it cuts the same words as the full one."""
    return _QUICK if text.isascii() or not any(map(_needs_care.__getitem__, set(text))) else _CAREFUL


def split_words(text: str) -> list[str]:
    """Words of a text, in order."""
    if text.isascii() or not any(letter in text for letter in LOWERED_BY_WORD):
        return _pattern(text).findall(text.lower())
    return [word.lower() for word in _pattern(text).findall(text)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word starts and ends in the text, in characters."""
    return [match.span() for match in _pattern(text).finditer(text)]


def _class_of(word: str) -> int:
    """Which entry of the table of sizes is a word's."""
    if word.isascii():
        return 0
    return 1 if _IDEOGRAPH.match(word) else 2 if _SYLLABLE.match(word) else 0


@lru_cache(_CACHED_WORDS >> 4)
def size_of_word(word: str) -> int:
    """What one word counts for, in sixths of a word."""
    return int(_SIZES[_class_of(word)])


def sized_words(text: str) -> tuple[list[str], NDArray[np.int64]]:
    """Words of a text in order, and what each counts for, in sixths of a word."""
    words = split_words(text)
    if _pattern(text) is _QUICK:
        return words, np.full(len(words), WORD)
    return words, np.fromiter(map(size_of_word, words), dtype=np.int64, count=len(words))


def sizes(words: Hashes) -> NDArray[np.int64]:
    """What each word of a text, given by its hash, counts for, in sixths of a word."""
    counted: NDArray[np.int64] = _SIZES[(words & np.uint64((1 << _CLASS_BITS) - 1)).astype(np.int64)]
    return counted


class _WordHashes(dict[str, int]):
    """Hash of each word as written, made once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        value = int.from_bytes(hashlib.blake2b(word.lower().encode(), digest_size=8).digest(), "little")
        value = (value >> _CLASS_BITS << _CLASS_BITS) | _class_of(word.lower())
        self[word] = value
        return value


_hash_of_word = _WordHashes()


class _HashedLately:
    """The texts hashed last and their words: each stage of a small build asks for the same ones, and every build for
    those of tenfold's own source."""

    def __init__(self) -> None:
        self._words: OrderedDict[str, Hashes] = OrderedDict()
        self._characters = 0

    def of(self, text: str) -> Hashes:
        """Word hashes of a text, not to be written to."""
        if (words := self._words.get(text)) is not None:
            self._words.move_to_end(text)
            return words
        words = _hash(text)
        words.flags.writeable = False
        self._words[text] = words
        self._characters += len(text)
        while self._characters > REMEMBERED:
            first, _ = self._words.popitem(last=False)
            self._characters -= len(first)
        return words


_hashed_lately = _HashedLately()
FEW_CHARACTERS = 512


def _hash(text: str) -> Hashes:
    if text.isascii() and len(text) >= FEW_CHARACTERS and "\0" not in text:
        lower = text.lower()
        return _ascii_hashes.of(lower, *ascii_words(lower.encode(), _KIND_OF_BYTE))
    found = _pattern(text).findall(text)
    return np.fromiter(map(_hash_of_word.__getitem__, found), dtype=np.uint64, count=len(found))


_ascii_hashes = WordTable(_hash_of_word.__getitem__)
_KIND_OF_BYTE = kinds_of_bytes(r"\s", r"\w")


def hash_words(text: str) -> Hashes:
    """A 64-bit hash of each word, [words]; its last two bits say what the word counts for."""
    return _hashed_lately.of(text)


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
    """A 64-bit hash of each run of `length` words, whatever they count for, [words − length + 1].

    A polynomial hash (Karp and Rabin, 1987) from prefix sums: the same few operations for every length.
    """
    count = max(0, words.size - length + 1)
    prefixes = _prefixes(words)
    return _mixed(prefixes[length:] - prefixes[:count], slice(count))


def measured_runs(words: Hashes, length: int) -> tuple[Hashes, Numbers]:
    """(hash, word after the last) of the shortest run from each word on that counts for `length` words, [runs].

    What a run ends with follows from its own words, so a copy has the same runs wherever it stands.
    """
    counted = sizes(words)
    if (counted == WORD).all():
        runs = hash_runs(words, length)
        return runs, np.arange(length, length + runs.size)
    ends = run_ends(counted, length)
    prefixes = _prefixes(words)
    return _mixed(prefixes[ends] - prefixes[: ends.size], slice(ends.size)), ends


def runs_at(words: Hashes, length: int, starts: Numbers) -> tuple[Numbers, Hashes, Numbers]:
    """(first word, hash, word after the last) of the runs of `measured_runs` that begin at some of the words alone."""
    counted = sizes(words)
    ends = run_ends(counted, length)
    starts = starts[: int(np.searchsorted(starts, ends.size))]
    after, prefixes = ends[starts], _prefixes(words)
    return starts, _mixed(prefixes[after] - prefixes[starts], starts), after


def run_ends(counted: Numbers, length: int) -> Numbers:
    """Where the run that counts for `length` words ends that begins at each word, as far as there is one, [runs]."""
    if (counted == WORD).all():
        return np.arange(length, counted.size + 1)
    before = np.concatenate([[0], np.cumsum(counted)])
    runs = int(np.searchsorted(before, before[-1] - length * WORD, side="right"))
    return np.searchsorted(before, before[:runs] + length * WORD, side="left")


def _prefixes(words: Hashes) -> Hashes:
    """The polynomial of each beginning of a text, [words + 1]."""
    up, _ = _powers.up_to(words.size)
    return np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(words * up, dtype=np.uint64)])


def _mixed(runs: Hashes, starts: slice | Numbers) -> Hashes:
    """Polynomials of runs that begin at these words, brought to one origin and mixed."""
    _, down = _powers.up_to(starts.stop if isinstance(starts, slice) else int(starts.max(initial=-1)) + 1)
    runs = runs * down[starts]
    runs = (runs ^ (runs >> np.uint64(32))) * _MIX
    mixed: Hashes = runs ^ (runs >> np.uint64(29))
    return mixed


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

    def numbers_of(self, members: Hashes) -> Numbers:
        """Which member each of these hashes is; all are members. Looked for in order, which saves cache misses."""
        order = np.argsort(members)
        numbers = np.empty(members.size, dtype=np.int64)
        numbers[order] = np.searchsorted(self.hashes, members[order])
        return numbers

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
