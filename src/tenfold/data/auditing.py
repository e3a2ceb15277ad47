"""Prove the isolation again, from the files on disk alone and by another method than the one that built them.

The build hashes runs of words. The audit decodes the shards back to text and compares words themselves (`run_numbers`),
and counts the shared words of passages one by one. What it looks for are the rules of `isolation`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError
from tenfold.data.corpus import HoldoutDocument, load_held_out, load_tokenizer, training_documents
from tenfold.data.isolation import FEWEST, OWNERS, SHINGLE, WINDOW, window_of
from tenfold.data.manifest import HoldoutText, IsolatedText, Manifest, SourceText
from tenfold.data.tokenizer import Tokenizer
from tenfold.data.words import sorted_unique, split_words

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
        """How many different runs of words the texts have."""
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


@dataclass(frozen=True)
class Check:
    """One check: what it looked at, whether it passed, what it found."""

    name: str
    checked: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class AuditReport:
    """Every check of one corpus."""

    checks: list[Check]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def audit(directory: Path) -> AuditReport:
    """Check hashes, counts, exact copies, shared runs and near-copies. Raises InputError when there is no corpus."""
    manifest = Manifest.load(directory)
    files = _check_files(directory, manifest)
    if not files.passed:
        return AuditReport([files])  # text that is damaged proves nothing
    texts = [(text, load_held_out(directory, manifest, text)) for text in manifest.held_out]
    found = _Findings([document for _, documents in texts for document in documents], manifest.ngram)
    counts = [_check_held_out_counts(texts)]
    tokenizer = load_tokenizer(directory, manifest)
    counts += [_look_at_source(directory, manifest, source, tokenizer, found) for source in manifest.sources]
    return AuditReport([files, *counts, *found.checks()])


def _look_at_source(
    directory: Path, manifest: Manifest, source: SourceText, tokenizer: Tokenizer, found: "_Findings"
) -> Check:
    """Compare every document of a source with the held-out text; the check is of its counts."""
    documents = tokens = size = 0
    for row in training_documents(directory, manifest, source):
        text = tokenizer.decode_bytes(row)
        documents, tokens, size = documents + 1, tokens + row.size + 1, size + len(text)
        found.look_at(f"{source.name} document {documents}", text)
    passed = (documents, tokens, size) == (source.documents, source.tokens, source.bytes)
    seen = f"{documents:,} documents, {tokens:,} tokens, {size:,} bytes"
    return Check(f"counts of source {source.name}", seen, passed, "" if passed else "not the manifest's")


def _check_files(directory: Path, manifest: Manifest) -> Check:
    try:
        count = manifest.verify(directory)
    except InputError as error:
        return Check("hashes of files", "every file", False, str(error))
    return Check("hashes of files", f"{count} files", True, "each as the manifest says")


def _check_held_out_counts(texts: Sequence[tuple[HoldoutText | IsolatedText, list[HoldoutDocument]]]) -> Check:
    wrong = [text.name for text, found in texts if (text.documents, text.tokens, text.bytes) != _counts(found)]
    scored = sum(len(found) for text, found in texts if isinstance(text, HoldoutText))
    kept_out = sum(len(found) for text, found in texts if isinstance(text, IsolatedText))
    names = ", ".join(dict.fromkeys(text.name for text, _ in texts))
    detail = f"not the manifest's: {', '.join(wrong)}" if wrong else names
    return Check("counts of holdouts", f"{scored:,} documents scored, {kept_out:,} only kept out", not wrong, detail)


def _counts(documents: list[HoldoutDocument]) -> tuple[int, int, int]:
    return len(documents), sum(d.tokens.size for d in documents), sum(len(d.text) for d in documents)


class _Findings:
    """What training documents have in common with held-out text."""

    def __init__(self, held_out: list[HoldoutDocument], ngram: int) -> None:
        self._ngram = ngram
        words = [split_words(document.text.decode("utf-8", errors="replace")) for document in held_out]
        self._texts = {hashlib.sha256(document.text).digest() for document in held_out}
        self._whole = {tuple(own) for own in words if 0 < len(own) < FEWEST}
        self._words = WordNumbers(words)
        rows = [self._words.of(own) for own in words]
        lengths = sorted({min(ngram, row.size) for row in rows if row.size >= FEWEST})
        self._levels = Levels(rows, max(ngram, SHINGLE))
        levels = [self._levels.of(row) for row in rows]
        self._runs = [RunNumbers([text for text in levels if min(ngram, text[0].size) == n], n) for n in lengths]
        self._passages = _HeldOutPassages(levels)
        self.held_out, self.documents, self.words = len(held_out), 0, 0
        self.exact: list[str] = []
        self.shared: list[str] = []
        self.near: list[str] = []
        self.nearest = 0.0

    def look_at(self, where: str, text: bytes) -> None:
        """Compare one training document with all held-out text."""
        words = split_words(text.decode("utf-8", errors="replace"))
        self.documents, self.words = self.documents + 1, self.words + len(words)
        if hashlib.sha256(text).digest() in self._texts or (len(words) < FEWEST and tuple(words) in self._whole):
            self.exact.append(where)
        levels = self._levels.of(self._words.of(words))
        if any((runs.of(levels) != UNKNOWN).any() for runs in self._runs):
            self.shared.append(where)
        nearness = self._passages.nearness(levels)
        self.nearest = max(self.nearest, nearness)
        if nearness >= 1:
            self.near.append(where)

    def checks(self) -> Iterator[Check]:
        """Every check with its verdict, in the order they are made."""
        compared = f"{self.documents:,} training documents against {self.held_out:,} held-out ones"
        yield Check("exact copies", compared, not self.exact, _first_of(self.exact, "none"))
        yield Check(
            f"shared runs of {self._ngram} words",
            f"{self.words:,} words against {sum(runs.count for runs in self._runs):,} held-out runs",
            not self.shared,
            _first_of(self.shared, "none"),
        )
        nearest = f"the nearest passage has {self.nearest:.0%} of the shared runs of {SHINGLE} words that make one"
        yield Check("near-copies", compared, not self.near, _first_of(self.near, nearest))


class _HeldOutPassages:
    """Counts, word by word, what a passage shares with each held-out document."""

    def __init__(self, texts: Sequence[list[Numbers]]) -> None:
        self._runs = RunNumbers(texts, SHINGLE)
        self._rules = [window_of(text[0].size) for text in texts]
        self._owners: list[list[int]] = [[] for _ in range(self._runs.count)]
        for document, row in enumerate(self._runs.of_documents):
            for number in sorted_unique(row).tolist():
                if len(self._owners[number]) < OWNERS:
                    self._owners[number].append(document)

    def nearness(self, levels: list[Numbers]) -> float:
        """The most runs that a passage shares with one held-out document, over those that make it a near-copy."""
        numbers = self._runs.of(levels)
        nearest = 0.0
        last_seen: dict[int, int] = {}
        shared_with: dict[int, deque[int]] = {}
        for position in np.flatnonzero(numbers != UNKNOWN).tolist():
            number = int(numbers[position])
            before = last_seen.get(number)
            last_seen[number] = position
            if before is not None and position - before < WINDOW:
                continue
            for owner in self._owners[number]:
                window, needed = self._rules[owner]
                places = shared_with.setdefault(owner, deque())
                places.append(position)
                while position - places[0] >= window:
                    places.popleft()
                nearest = max(nearest, len(places) / needed)
        return nearest


def _first_of(found: list[str], otherwise: str) -> str:
    if not found:
        return otherwise
    return found[0] + (f" and {len(found) - 1:,} more" if len(found) > 1 else "")
