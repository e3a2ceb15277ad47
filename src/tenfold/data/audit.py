"""Prove the isolation again, from the files on disk alone and by another method than the one that built them.

The build hashes runs of words. The audit decodes the shards back to text and compares words themselves: every word of
a holdout gets a number, every run of words of length 2, 4, 8 … up to n a number made of its two halves' numbers
(Karp, Miller and Rosenberg, STOC 1972), so equal numbers mean equal words, without any chance of a collision.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.data.corpus import HoldoutDocument, load_holdout, load_tokenizer, training_documents
from tenfold.data.manifest import Manifest
from tenfold.data.words import split_words
from tenfold.errors import InputError

NEAR_COPY_RUN = 8  # words
NEAR_COPY_SHARE = 0.7
Numbers = NDArray[np.int64]
UNKNOWN = -1


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
        """Whether all passed."""
        return all(check.passed for check in self.checks)


class RunNumbers:
    """Numbers for every run of `length` words that the holdouts have; all other runs are UNKNOWN."""

    def __init__(self, documents: Sequence[Sequence[str]], length: int) -> None:
        self._words: dict[str, int] = {}
        for word in (word for document in documents for word in document):
            self._words.setdefault(word, len(self._words))
        self._offsets = _offsets(length)
        self._tables: list[Numbers] = []
        rows = [self._number_words(document) for document in documents]
        for offset in self._offsets:
            keys = [_pairs(row, offset) for row in rows]
            table = np.unique(np.concatenate([key[key != UNKNOWN] for key in keys]))
            self._tables.append(table)
            rows = [_look_up(table, key) for key in keys]
        self.of_documents = rows

    @property
    def count(self) -> int:
        """Different runs."""
        return int(self._tables[-1].size) if self._tables else len(self._words)

    def of(self, words: Sequence[str]) -> Numbers:
        """The number of each run of a text, [words − length + 1]."""
        row = self._number_words(words)
        for offset, table in zip(self._offsets, self._tables, strict=True):
            row = _look_up(table, _pairs(row, offset))
        return row

    def _number_words(self, words: Sequence[str]) -> Numbers:
        return np.fromiter((self._words.get(word, UNKNOWN) for word in words), dtype=np.int64, count=len(words))


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
    if table.size == 0:
        return np.full_like(keys, UNKNOWN)
    places = np.minimum(np.searchsorted(table, keys), table.size - 1)
    return np.where(table[places] == keys, places, UNKNOWN)


def audit(directory: Path) -> AuditReport:
    """Check hashes, counts, exact copies, shared runs and near-copies. Raises InputError when there is no corpus."""
    manifest = Manifest.load(directory)
    files = _check_files(directory, manifest)
    if not files.passed:
        return AuditReport([files])  # text that is damaged proves nothing
    holdouts = {h.name: load_holdout(directory, manifest, h.name) for h in manifest.holdouts}
    held_out = [document for documents in holdouts.values() for document in documents]
    found = _Findings(held_out, manifest.ngram)
    counts = [_check_holdout_counts(manifest, holdouts)]
    tokenizer = load_tokenizer(directory, manifest)
    for source in manifest.sources:
        documents = tokens = size = 0
        for row in training_documents(directory, manifest, source):
            text = tokenizer.decode_bytes(row)
            documents, tokens, size = documents + 1, tokens + row.size + 1, size + len(text)
            found.look_at(f"{source.name} document {documents}", text)
        passed = (documents, tokens, size) == (source.documents, source.tokens, source.bytes)
        seen = f"{documents:,} documents, {tokens:,} tokens, {size:,} bytes"
        counts.append(Check(f"counts of source {source.name}", seen, passed, "" if passed else "not the manifest's"))
    return AuditReport([files, *counts, *found.checks()])


def _check_files(directory: Path, manifest: Manifest) -> Check:
    try:
        count = manifest.verify(directory)
    except InputError as error:
        return Check("hashes of files", "every file", False, str(error))
    return Check("hashes of files", f"{count} files", True, "each as the manifest says")


def _check_holdout_counts(manifest: Manifest, holdouts: dict[str, list[HoldoutDocument]]) -> Check:
    wrong = [
        holdout.name
        for holdout in manifest.holdouts
        if (holdout.documents, holdout.tokens, holdout.bytes) != _counts(holdouts[holdout.name])
    ]
    documents = sum(map(len, holdouts.values()))
    detail = f"not the manifest's: {', '.join(wrong)}" if wrong else ", ".join(holdouts)
    return Check("counts of holdouts", f"{documents:,} documents", not wrong, detail)


def _counts(documents: list[HoldoutDocument]) -> tuple[int, int, int]:
    return len(documents), sum(d.tokens.size for d in documents), sum(len(d.text) for d in documents)


class _Findings:
    """What training documents have in common with the holdouts."""

    def __init__(self, held_out: list[HoldoutDocument], ngram: int) -> None:
        self._ngram = ngram
        words = [split_words(document.text.decode("utf-8", errors="replace")) for document in held_out]
        self._runs = RunNumbers(words, ngram)
        self._short_runs = RunNumbers(words, NEAR_COPY_RUN)
        self._texts = {hashlib.sha256(document.text).digest() for document in held_out}
        self._owners = _Owners(self._short_runs)
        self.held_out, self.documents, self.words = len(held_out), 0, 0
        self.exact: list[str] = []
        self.shared: list[str] = []
        self.near: list[str] = []
        self.nearest = 0.0

    def look_at(self, where: str, text: bytes) -> None:
        """Compare one training document with all holdouts."""
        words = split_words(text.decode("utf-8", errors="replace"))
        self.documents, self.words = self.documents + 1, self.words + len(words)
        if hashlib.sha256(text).digest() in self._texts:
            self.exact.append(where)
        if (self._runs.of(words) != UNKNOWN).any():
            self.shared.append(where)
        share = self._owners.largest_share(self._short_runs.of(words))
        self.nearest = max(self.nearest, share)
        if share >= NEAR_COPY_SHARE:
            self.near.append(where)

    def checks(self) -> Iterator[Check]:
        """The verdicts."""
        compared = f"{self.documents:,} training documents against {self.held_out:,} held-out ones"
        yield Check("exact copies", compared, not self.exact, _first_of(self.exact, "none"))
        yield Check(
            f"shared runs of {self._ngram} words",
            f"{self.words:,} words against {self._runs.count:,} held-out runs",
            not self.shared,
            _first_of(self.shared, "none"),
        )
        nearest = f"at most {self.nearest:.0%} of a held-out document's runs of {NEAR_COPY_RUN} words in one"
        yield Check("near-copies", compared, not self.near, _first_of(self.near, nearest))


class _Owners:
    """Which held-out documents have each run."""

    def __init__(self, runs: RunNumbers) -> None:
        distinct = [np.unique(row) for row in runs.of_documents]
        pairs = [(row, np.full(row.size, number)) for number, row in enumerate(distinct)]
        numbers = np.concatenate([row for row, _ in pairs]) if pairs else np.empty(0, dtype=np.int64)
        owners = np.concatenate([owner for _, owner in pairs]) if pairs else np.empty(0, dtype=np.int64)
        order = np.argsort(numbers, kind="stable")
        self._numbers, self._owners = numbers[order], owners[order]
        self._sizes = np.asarray([row.size for row in distinct])

    def largest_share(self, row: Numbers) -> float:
        """The largest share of one held-out document's runs that `row` has. Documents of a few runs do not count."""
        known = np.unique(row[row != UNKNOWN])
        if known.size == 0:
            return 0.0
        found = np.isin(self._numbers, known, assume_unique=False)
        hits = np.bincount(self._owners[found], minlength=self._sizes.size)
        return float(np.max(hits / np.maximum(self._sizes, 5 * NEAR_COPY_RUN)))


def _first_of(found: list[str], otherwise: str) -> str:
    if not found:
        return otherwise
    return found[0] + (f" and {len(found) - 1:,} more" if len(found) > 1 else "")
