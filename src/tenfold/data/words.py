"""Words, and hashes of runs of them: what near-duplicates and contamination are defined by.

A word is a run of letters, digits and underscores, lower-cased, or a run of other visible characters: code counts by
its punctuation too, and white space and case never tell two texts apart.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WORD = re.compile(r"\w+|[^\w\s]+")
# Odd multipliers of a polynomial hash modulo 2^64, one for each distance from the end of the run.
_BASE = np.uint64(0x9E3779B97F4A7C15)


def split_words(text: str) -> list[str]:
    """Words of a text, in order."""
    return [word.lower() for word in WORD.findall(text)]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word starts and ends in the text, in characters."""
    return [match.span() for match in WORD.finditer(text)]


@lru_cache(maxsize=1 << 20)
def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


def hash_words(text: str) -> NDArray[np.uint64]:
    """A 64-bit hash of each word, [words]."""
    return np.fromiter(map(_hash_word, split_words(text)), dtype=np.uint64)


def hash_runs(words: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each run of `length` words, [words − length + 1]."""
    count = words.size - length + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    runs = np.zeros(count, dtype=np.uint64)
    for offset in range(length):
        runs = runs * _BASE + words[offset : offset + count]
    return runs ^ (runs >> np.uint64(29))
