"""Words of ASCII text found and looked up with numpy: many times as fast as one by one, and the same words."""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Values = NDArray[np.uint64]
Kinds = NDArray[np.uint8]
SLOT_BITS = 20
EIGHT = 8  # bytes of a number
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MASKS = np.asarray([(1 << 8 * size) - 1 for size in range(EIGHT + 1)], dtype=np.uint64)
"""What is left of a number's first bytes, by how many there are."""


def kinds_of_bytes(*patterns: str) -> Kinds:
    """By byte below 128, which of the patterns its character matches first, else how many there are, [128]."""
    characters = map(chr, range(128))
    kinds = [next((n for n, own in enumerate(patterns) if re.match(own, each)), len(patterns)) for each in characters]
    return np.asarray(kinds, dtype=np.uint8)


def runs_of_kinds(content: bytes, kinds: Kinds) -> tuple[Numbers, Numbers, Kinds]:
    """(first byte, byte after the last, kind) of each run of bytes of one kind."""
    kind = kinds[np.frombuffer(content, dtype=np.uint8)]
    firsts = np.flatnonzero(np.concatenate([[True], kind[1:] != kind[:-1]]))
    return firsts, np.append(firsts[1:], kind.size), kind[firsts]


def ascii_words(content: bytes, kinds: Kinds) -> tuple[Numbers, Numbers]:
    """(first byte, byte after the last) of each run of bytes of one kind but the first kind, which is white space."""
    firsts, afters, kind = runs_of_kinds(content, kinds)
    seen = kind != 0
    return firsts[seen], afters[seen]


_GPT2_KINDS = kinds_of_bytes(r"[\t-\r ]", "[A-Za-z]", "[0-9]")
_SPACES, _LETTERS = 0, 1
_AFTER_APOSTROPHE = [b"s", b"t", b"re", b"ve", b"m", b"ll", b"d"]


def gpt2_words(content: bytes) -> tuple[Numbers, Numbers]:
    """(first byte, byte after the last) of each word that GPT-2's pattern cuts an ASCII text into; they leave no gap.

    The pattern is `'s|'t|'re|'ve|'m|'ll|'d| ?letters| ?digits| ?others|spaces(?!others)|spaces`: of white space before
    something else the last character stands alone, and if it is a space it goes to what follows.
    """
    firsts, afters, kind = runs_of_kinds(content, _GPT2_KINDS)
    data, starts, size = np.frombuffer(content, dtype=np.uint8), firsts.copy(), afters - firsts
    spaces = np.flatnonzero(kind[:-1] == _SPACES)
    joined = spaces[data[afters[spaces] - 1] == ord(" ")]
    starts[joined + 1] -= 1
    alone = spaces[data[afters[spaces] - 1] != ord(" ")]
    own = (size == 1) & (data[firsts] == ord("'")) & (starts == firsts)
    marks = np.flatnonzero(own[:-1] & (kind[1:] == _LETTERS))
    starts[marks + 1] += _suffixes(data, firsts[marks + 1], size[marks + 1])
    starts = np.concatenate([starts, afters[alone] - 1])
    starts = np.sort(starts[starts < len(content)])
    starts = starts[np.concatenate([[True], starts[1:] != starts[:-1]])]
    return starts, np.append(starts[1:], len(content))


def _suffixes(data: NDArray[np.uint8], firsts: Numbers, sizes: Numbers) -> Numbers:
    """How many letters of each run of letters go to the apostrophe before it."""
    second = data[np.minimum(firsts + 1, data.size - 1)]
    taken = np.zeros_like(firsts)
    for suffix in _AFTER_APOSTROPHE:
        fits = (data[firsts] == suffix[0]) & (sizes >= len(suffix))
        taken[fits & (second == suffix[1]) if len(suffix) > 1 else fits] = len(suffix)
    return taken


class WordTable:
    """A number for each word: those met lately stand in a table of one slot for each hash, others are asked for.

    A word of up to sixteen bytes is compared whole, as two numbers; so no two words are ever taken for one.
    """

    def __init__(self, number_of: Callable[[str], int], slot_bits: int = SLOT_BITS) -> None:
        self._number_of, self._shift = number_of, np.uint64(64 - slot_bits)
        self._first = np.zeros(1 << slot_bits, dtype=np.uint64)
        self._second = np.zeros_like(self._first)
        self._values = np.zeros_like(self._first)
        self._order = np.zeros(1 << slot_bits, dtype=np.int64)

    def of(self, text: str, firsts: Numbers, afters: Numbers) -> Values:
        """The number of each word of an ASCII text without NUL, [words]."""
        padded = text.encode() + bytes(2 * EIGHT)
        windows = np.ndarray(len(text) + EIGHT, dtype="<u8", buffer=padded, strides=(1,))
        sizes = afters - firsts
        first = windows[firsts] & _MASKS[np.minimum(sizes, EIGHT)]
        second = np.zeros_like(first)
        long = np.flatnonzero(sizes > EIGHT)
        second[long] = windows[firsts[long] + EIGHT] & _MASKS[np.minimum(sizes[long] - EIGHT, EIGHT)]
        slots = ((first ^ (second * _MIX >> np.uint64(32))) * _MIX >> self._shift).astype(np.int64)
        known = (self._first[slots] == first) & (self._second[slots] == second) & (sizes <= 2 * EIGHT)
        values: Values = self._values[slots]
        asked = np.flatnonzero(~known)
        if asked.size:
            places = zip(firsts[asked].tolist(), afters[asked].tolist(), strict=True)
            words = [text[start:end] for start, end in places]
            values[asked] = list(map(self._number_of, words))
            self._remember(slots, first, second, values, asked[sizes[asked] <= 2 * EIGHT])
        return values

    def _remember(self, slots: Numbers, first: Values, second: Values, values: Values, chosen: Numbers) -> None:
        """Of words that fall on one slot one stays."""
        self._order[slots[chosen]] = chosen
        chosen = chosen[self._order[slots[chosen]] == chosen]
        taken = slots[chosen]
        self._first[taken], self._second[taken], self._values[taken] = first[chosen], second[chosen], values[chosen]
