"""Byte-level BPE word by word: a word is encoded once and looked up after that, three times as fast as text by text.

The words are those of GPT-2's pattern, which a tokenizer that we trained, and most that are given, cut text into before
anything else; so the tokens are the same. What cannot be told for certain is left to the tokenizer itself: other
patterns, and texts with rare characters, of which two versions of Unicode may think differently.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tenfold.data.ascii_words import WordTable, gpt2_words
from tenfold.data.tokenizer import Tokenizer

MOST_WORDS = 1 << 18
"""Words remembered; beyond that all are forgotten."""
FEW_CHARACTERS = 512
LONGEST_WORD = 4096
"""Characters; a text with a longer word is left to the tokenizer, so that memory stays bounded."""
Tokens = NDArray[np.int64]

# Blocks of scripts and signs that are old enough to be the same in every version of Unicode in use.
_OLD_BLOCKS = (
    *((0x80, 0x24F), (0x370, 0x52F), (0x2000, 0x206F), (0x20A0, 0x20BF), (0x2100, 0x23CE), (0x2500, 0x27BF)),
    *((0x3000, 0x303F), (0x3041, 0x3096), (0x30A1, 0x30FE), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xFF01, 0xFF5E)),
)
_SPACES = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


def _class_of(kind: str) -> str:
    """Characters of the old blocks whose category begins so, as a class of a regular expression."""
    points = [*range(0x80), *(point for low, high in _OLD_BLOCKS for point in range(low, high + 1))]
    wanted = [point for point in points if unicodedata.category(chr(point)).startswith(kind)]
    edges = [at for at in range(1, len(wanted)) if wanted[at] != wanted[at - 1] + 1]
    ranges = zip([0, *edges], [*edges, len(wanted)], strict=True)
    return "".join(f"\\U{wanted[first]:08x}-\\U{wanted[after - 1]:08x}" for first, after in ranges)


def _words_of(letters: str, numbers: str, spaces: str) -> re.Pattern[str]:
    return re.compile(
        rf"'(?:s|t|re|ve|m|ll|d)| ?[{letters}]+| ?[{numbers}]+| ?[^{spaces}{letters}{numbers}]+"
        rf"|[{spaces}]+(?![^{spaces}])|[{spaces}]+"
    )


_WORDS_OF_ASCII = _words_of("A-Za-z", "0-9", "\t-\r ")
_WORDS = _words_of(_class_of("L"), _class_of("N"), _SPACES)
_UNASSIGNED = _class_of("Cn") or "\\U0010ffff"
_OLD = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _OLD_BLOCKS)
_UNSURE = re.compile(rf"[^\x00-\x7f{_OLD}]|[{_UNASSIGNED}]|\S{{{LONGEST_WORD}}}|\s{{{LONGEST_WORD}}}")


class WordEncoder:
    """Encodes texts as its tokenizer does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._by_words = cuts_as_gpt2(tokenizer.to_json())
        self._forget()

    def _forget(self) -> None:
        self._words = _Numbers()
        self._table = WordTable(self._words.__getitem__)
        self._tokens: Tokens = np.empty(0, dtype=np.int64)
        self._starts: Tokens = np.zeros(1, dtype=np.int64)

    def encode_batch(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of each text."""
        if len(self._words) > MOST_WORDS:
            self._forget()
        rows = [self._numbers_of(text) if self._by_words else None for text in texts]
        self._learn(self._words.take_new())
        others = self._others([text for text, row in zip(texts, rows, strict=True) if row is None])
        return [next(others) if row is None else self._look_up(row) for row in rows]

    def _numbers_of(self, text: str) -> Tokens | None:
        """The number of each word of a text; None where it is left to the tokenizer."""
        if text.isascii() and "\0" not in text and len(text) >= FEW_CHARACTERS:
            firsts, afters = gpt2_words(text.encode())
            if (afters - firsts).max() <= LONGEST_WORD:
                return self._table.of(text, firsts, afters).astype(np.int64)
        return None if _UNSURE.search(text) else self._words.of(text)

    def _others(self, texts: list[str]) -> Iterator[Tokens]:
        return (np.asarray(tokens, dtype=np.int64) for tokens in self._tokenizer.encode_batch(texts))

    def _learn(self, words: list[str]) -> None:
        if words:
            rows = list(self._others(words))
            ends = self._starts[-1] + np.cumsum([row.size for row in rows])
            self._tokens = np.concatenate([self._tokens, *rows])
            self._starts = np.concatenate([self._starts, ends])

    def _look_up(self, words: Tokens) -> Tokens:
        counts = self._starts[words + 1] - self._starts[words]
        ends = np.cumsum(counts)
        begins = np.repeat(self._starts[words] - (ends - counts), counts)
        found: Tokens = self._tokens[begins + np.arange(begins.size)]
        return found


class _Numbers(dict[str, int]):
    """A number for each word, given when it is first met."""

    def __init__(self) -> None:
        super().__init__()
        self._new: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self._new.append(word)
        return number

    def of(self, text: str) -> Tokens:
        """The number of each word of a text."""
        words = (_WORDS_OF_ASCII if text.isascii() else _WORDS).findall(text)
        return np.fromiter(map(self.__getitem__, words), dtype=np.int64, count=len(words))

    def take_new(self) -> list[str]:
        """Words met since the last call, in the order of their numbers."""
        new, self._new = self._new, []
        return new


def cuts_as_gpt2(description: str) -> bool:
    """Whether a tokenizer, given as tokenizer.json, cuts text by GPT-2's pattern before all else, and then merges."""
    value = json.loads(description)
    cut, model = value["pre_tokenizer"] or {}, value["model"]
    if any(not token["special"] for token in value["added_tokens"]):
        return False  # taken out of the text before it is cut
    plain = cut.get("type") == "ByteLevel" and not cut.get("add_prefix_space") and cut.get("use_regex", True)
    merges = model.get("type") == "BPE" and not model.get("dropout") and not model.get("ignore_merges")
    return bool(plain and merges and not model.get("continuing_subword_prefix") and not model.get("end_of_word_suffix"))
