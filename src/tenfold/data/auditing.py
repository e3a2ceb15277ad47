"""Prove the isolation again, from the files on disk alone and by another method than the one that built them.

The build hashes runs of words. The audit decodes the shards back to text and compares words themselves (`run_numbers`),
and counts the shared words of passages one by one. What it looks for are the rules of `isolation`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError
from tenfold.data.bias import BiasMeter
from tenfold.data.corpus import HoldoutDocument, load_held_out, load_tokenizer, training_documents
from tenfold.data.frequency import FEWEST, SHINGLE
from tenfold.data.isolation import OWNERS, WINDOW, own_words, window_of
from tenfold.data.manifest import COMMON_DTYPE, HoldoutText, IsolatedText, Manifest, SourceText
from tenfold.data.tokenizer import Tokenizer
from tenfold.data.words import WORD, run_ends, size_of_word, sorted_unique, split_words

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]
UNKNOWN = -1
SEVERAL = 2  # documents
RARE_CLAIMS = 100  # about a passage of so many words
BIASED = 0.05
FEWEST_RUNS = 100  # fewer say nothing about bias
NONE: Numbers = np.empty(0, dtype=np.int64)


class WordNumbers:
    """A number for each different word of some texts."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        different = dict.fromkeys(word for document in documents for word in document)
        self._numbers = dict(zip(different, range(len(different)), strict=True))

    def of(self, words: Sequence[str]) -> Numbers:
        """The number of each word, UNKNOWN for others, [words]."""
        numbers = map(self._numbers.get, words, repeat(UNKNOWN))
        return np.fromiter(numbers, dtype=np.int64, count=len(words))


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
    """Numbers for the runs that some texts have, each text given by its levels and by where its runs end."""

    def __init__(self, texts: Sequence[tuple[list[Numbers], Numbers]]) -> None:
        keys: dict[int, list[Numbers]] = {}
        for levels, ends in texts:
            for count, _, own in _keys(levels, ends):
                keys.setdefault(count, []).append(own)
        self._tables = {count: _different(own) for count, own in sorted(keys.items())}
        sizes = [table.size for table in self._tables.values()]
        self._first = dict(zip(self._tables, np.cumsum([0, *sizes]).tolist(), strict=False))
        self.count = sum(sizes)
        """How many different runs the texts have."""

    def of(self, levels: list[Numbers], ends: Numbers) -> Numbers:
        """The number of each run of a text, [runs]; UNKNOWN for runs that the texts do not have."""
        numbers = np.full(ends.size, UNKNOWN)
        for count, at, keys in _keys(levels, ends):
            if count in self._tables:
                found = _look_up(self._tables[count], keys)
                numbers[at] = np.where(found == UNKNOWN, UNKNOWN, found + self._first[count])
        return numbers


def _words_of_runs(ends: Numbers) -> Numbers:
    return ends - np.arange(ends.size)


def _keys(levels: list[Numbers], ends: Numbers) -> Iterator[tuple[int, Numbers, Numbers]]:
    """(words, where, key) of the runs of a text, those of as many words together."""
    words = _words_of_runs(ends)
    for count in sorted_unique(words).tolist():
        level = count.bit_length() - 1
        if level < len(levels):  # longer than any run of the texts
            at = np.flatnonzero(words == count)
            yield count, at, _pairs(levels[level], count - (1 << level))[at]


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
    doubtful: bool = False
    """Passed, but somebody should look at it."""


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
    held_out = [document for _, documents in texts for document in documents]
    found = _Findings(held_out, manifest.ngram, *_common_text(directory, manifest))
    splits = [(text.name, documents) for text, documents in texts if _is_split(text)]
    meters = {name: BiasMeter([_decoded(document.text) for document in documents]) for name, documents in splits}
    counts = [_check_held_out_counts(texts)]
    tokenizer = load_tokenizer(directory, manifest)
    look = partial(_look_at_source, directory, manifest, tokenizer, found, list(meters.values()))
    counts += map(look, manifest.sources)
    return AuditReport([files, *counts, *found.checks(), *(_check_of_bias(*each) for each in meters.items())])


def _is_split(text: HoldoutText | IsolatedText) -> bool:
    return isinstance(text, HoldoutText) and text.kind == "split"


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")


def _check_of_bias(name: str, meter: BiasMeter) -> Check:
    """What the isolation has drawn apart; a figure to look at, which no corpus fails."""
    held_out, training = meter.of_holdout(), meter.of_training()
    looked_at = f"{held_out.common:,} runs common in the holdout, {training.common:,} in training"
    found = f"training lacks {held_out.share:.1%} of the former, the holdout {training.share:.1%} of the latter"
    biased = max(held_out.share, training.share) > BIASED and held_out.common + training.common > FEWEST_RUNS
    return Check(f"bias of {name}", looked_at, True, found, doubtful=biased)


def _common_text(directory: Path, manifest: Manifest) -> tuple[Numbers, int]:
    """(length, document, first word) of each common window, [windows, 3], and how many documents were counted."""
    if manifest.common is None:
        return np.empty((0, 3), dtype=np.int64), 0
    rows = np.fromfile(directory / manifest.common.file, dtype=COMMON_DTYPE)
    return rows.astype(np.int64).reshape(-1, 3), manifest.common.documents


def _look_at_source(
    directory: Path,
    manifest: Manifest,
    tokenizer: Tokenizer,
    found: "_Findings",
    meters: Sequence[BiasMeter],
    source: SourceText,
) -> Check:
    """Compare every document of a source with the held-out text; the check is of its counts."""
    documents = tokens = size = 0
    for row in training_documents(directory, manifest, source):
        text = tokenizer.decode_bytes(row)
        documents, tokens, size = documents + 1, tokens + row.size + 1, size + len(text)
        found.look_at(f"{source.name} document {documents}", text)
        for meter in meters:
            meter.look_at(_decoded(text))
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


@dataclass(frozen=True)
class _Read:
    """A text as the audit compares it: its words, the numbers of their runs, and what each counts for."""

    words: list[str]
    levels: list[Numbers]
    sizes: Numbers

    def ends(self, length: int) -> Numbers:
        """Where runs end: of so many words by measure, of SHINGLE words by number where `length` is 0."""
        if length:
            return run_ends(self.sizes, length)
        return np.arange(SHINGLE, len(self.words) + 1)


class _Reader:
    """Reads texts by the words of the held-out ones."""

    def __init__(self, held_out: Sequence[bytes], ngram: int) -> None:
        words = [_words(text) for text in held_out]
        self._words = WordNumbers([own for own, _ in words])
        rows = [self._words.of(own) for own, _ in words]
        longest = max([1, SHINGLE, *(_longest_run(sizes, ngram) for _, sizes in words)])
        self._levels = Levels(rows, longest)
        read = zip(words, rows, strict=True)
        self.held_out = [_Read(own, self._levels.of(row), sizes) for (own, sizes), row in read]

    def read(self, text: bytes) -> _Read:
        """A training text."""
        words, sizes = _words(text)
        return _Read(words, self._levels.of(self._words.of(words)), sizes)


def _words(content: bytes) -> tuple[list[str], Numbers]:
    """Words of a text and what each counts for."""
    text = _decoded(content)
    words = split_words(text)
    if text.isascii():
        return words, np.full(len(words), WORD)
    return words, np.fromiter(map(size_of_word, words), dtype=np.int64, count=len(words))


def _longest_run(sizes: Numbers, ngram: int) -> int:
    ends = run_ends(sizes, ngram)
    return int(_words_of_runs(ends).max(initial=0)) if ends.size else int(sizes.size)


class _Findings:
    """What training documents have in common with held-out text."""

    def __init__(self, held_out: list[HoldoutDocument], ngram: int, common: Numbers, counted: int) -> None:
        self._ngram, self._counted = ngram, counted
        self._texts = {hashlib.sha256(document.text).digest() for document in held_out}
        self._reader = _Reader([document.text for document in held_out], ngram)
        texts = self._reader.held_out
        whole = [int(text.sizes.sum()) // WORD for text in texts]
        short = (text.words for text, words in zip(texts, whole, strict=True) if words < FEWEST)
        self._whole = {tuple(words) for words in short if words}
        lengths = sorted({min(ngram, words) for words in whole if words >= FEWEST})
        self._runs = {0: RunNumbers([(text.levels, text.ends(0)) for text in texts])}
        for length in lengths:
            own = [text for text, words in zip(texts, whole, strict=True) if min(ngram, words) == length]
            self._runs[length] = RunNumbers([(text.levels, text.ends(length)) for text in own])
        self._claimed = {length: np.zeros(runs.count, dtype=bool) for length, runs in self._runs.items()}
        self._seen_in = {length: np.zeros(runs.count, dtype=np.int64) for length, runs in self._runs.items()}
        self.unknown_claims = self._claim(common)
        numbers = [self._numbers(text) for text in texts]
        common_words = [self._common(text, own) for text, own in zip(texts, numbers, strict=True)]
        shingles = [own[0] for own in numbers]
        self._passages = _HeldOutPassages(list(zip(shingles, common_words, strict=True)), self._runs[0].count)
        self.held_out, self.documents, self.words = len(held_out), 0, 0
        self.exact: list[str] = []
        self.shared: list[str] = []
        self.near: list[str] = []
        self.nearest = 0.0

    def _claim(self, common: Numbers) -> int:
        """Note which runs are common by what the build says; returns how many are no runs of the held-out text."""
        unknown = 0
        for length, document, first in common.tolist():
            numbers = NONE
            if length in self._runs and 0 <= document < len(self._reader.held_out):
                text = self._reader.held_out[document]
                numbers = self._runs[length].of(text.levels, text.ends(length))[first : first + 1]
            known = numbers[numbers != UNKNOWN]
            self._claimed[length][known] = True
            unknown += not known.size
        return unknown

    def _numbers(self, text: _Read) -> dict[int, Numbers]:
        """Numbers of the runs of a text, by their length."""
        return {length: runs.of(text.levels, text.ends(length)) for length, runs in self._runs.items()}

    def _common(self, text: _Read, numbers: Mapping[int, Numbers]) -> Mask:
        """For each word, whether it stands in something common."""
        mask = np.zeros(len(text.words), dtype=bool)
        for length, own in numbers.items():
            ends = text.ends(length)
            for first in np.flatnonzero((own != UNKNOWN) & self._claimed[length][own]).tolist():
                mask[first : ends[first]] = True
        return mask

    def look_at(self, where: str, text: bytes) -> None:
        """Compare one training document with all held-out text."""
        read = self._reader.read(text)
        self.documents, self.words = self.documents + 1, self.words + len(read.words)
        if hashlib.sha256(text).digest() in self._texts or tuple(read.words) in self._whole:
            self.exact.append(where)
        numbers = self._numbers(read)
        for length, own in numbers.items():
            self._seen_in[length][sorted_unique(own[own != UNKNOWN])] += 1
        common = self._common(read, numbers)
        if any(self._is_shared(read, length, own, common) for length, own in numbers.items() if length):
            self.shared.append(where)
        nearness = self._passages.nearness(numbers[0], common)
        self.nearest = max(self.nearest, nearness)
        if nearness >= 1:
            self.near.append(where)

    def _is_shared(self, read: _Read, length: int, numbers: Numbers, common: Mask) -> bool:
        """Whether one of these runs is shared: not common, and by half of words that are not."""
        ends = read.ends(length)
        own = np.concatenate([[0], np.cumsum(np.where(common, 0, read.sizes))])
        at = np.flatnonzero((numbers != UNKNOWN) & ~self._claimed[length][numbers])
        return bool((own[ends[at]] - own[at] >= own_words(length)).any())

    def checks(self) -> Iterator[Check]:
        """Every check with its verdict, in the order they are made."""
        compared = f"{self.documents:,} training documents against {self.held_out:,} held-out ones"
        yield Check("exact copies", compared, not self.exact, _first_of(self.exact, "none"))
        runs = sum(runs.count for length, runs in self._runs.items() if length)
        words = f"{self.words:,} words against {runs:,} held-out runs"
        yield Check(f"shared runs of {self._ngram} words", words, not self.shared, _first_of(self.shared, "none"))
        nearest = f"the nearest passage has {self.nearest:.0%} of the shared runs of {SHINGLE} words that make one"
        yield Check("near-copies", compared, not self.near, _first_of(self.near, nearest))
        yield self._check_of_common()

    def _check_of_common(self) -> Check:
        """Whether what the build left because many documents have it is in several of them still.

        Some may not be: documents that were dropped took theirs with them.
        """
        claimed = sum(int(mask.sum()) for mask in self._claimed.values())
        rare = sum(int((self._seen_in[length][mask] < SEVERAL).sum()) for length, mask in self._claimed.items())
        checked = f"{claimed + self.unknown_claims:,} runs that holdouts share with many of {self._counted:,} documents"
        found = f"{rare:,} are left in fewer than {SEVERAL}, {self.unknown_claims:,} are in no holdout"
        return Check("common runs", checked, rare <= max(RARE_CLAIMS, claimed // 2) and not self.unknown_claims, found)


class _HeldOutPassages:
    """Counts, word by word, what a passage shares with each held-out document."""

    def __init__(self, texts: Sequence[tuple[Numbers, Mask]], shingles: int) -> None:
        """Held-out texts, each by the numbers of its shingles and by which of its words are common."""
        self._rules = [window_of(_own_shingles(numbers, common).size) for numbers, common in texts]
        have = [own[own != UNKNOWN] for own in (sorted_unique(numbers) for numbers, _ in texts)]
        shingle = np.concatenate([NONE, *have])
        document = np.repeat(np.arange(len(have)), [own.size for own in have])
        self._owners = document[np.argsort(shingle, kind="stable")]
        """Documents that have shingle 0, then those that have shingle 1 …"""
        self._first = np.concatenate([[0], np.cumsum(np.bincount(shingle, minlength=shingles))])

    def nearness(self, numbers: Numbers, common: Mask) -> float:
        """The most shingles that a passage shares with one held-out document, over those that make it a near-copy."""
        if not (numbers != UNKNOWN).any():
            return 0.0
        nearest = 0.0
        last_seen: dict[int, int] = {}
        shared_with: dict[int, deque[int]] = {}
        for position, number in enumerate(_own_shingles(numbers, common).tolist()):
            if number == UNKNOWN:
                continue
            before = last_seen.get(number)
            last_seen[number] = position
            if before is not None and position - before < WINDOW:
                continue
            first, end = self._first[number : number + 2].tolist()
            for owner in self._owners[first : min(end, first + OWNERS)].tolist():
                window, needed = self._rules[owner]
                places = shared_with.setdefault(owner, deque())
                places.append(position)
                while position - places[0] >= window:
                    places.popleft()
                nearest = max(nearest, len(places) / needed)
        return nearest


def _own_shingles(numbers: Numbers, common: Mask) -> Numbers:
    """Shingles of a text but those of which every word is common."""
    others = np.flatnonzero(~common)  # words
    following = np.searchsorted(others, np.arange(numbers.size))
    nearest = np.append(others, common.size + SHINGLE)[following]
    return numbers[nearest < np.arange(numbers.size) + SHINGLE]


def _first_of(found: list[str], otherwise: str) -> str:
    if not found:
        return otherwise
    return found[0] + (f" and {len(found) - 1:,} more" if len(found) > 1 else "")
