"""Prove the isolation again, from the files on disk alone and by another method than the one that built them.

The build hashes runs of words. The audit decodes the shards back to text and compares words themselves (`run_numbers`),
and counts the shared words of passages one by one. What it looks for are the rules of `isolation`.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError
from tenfold.data.bias import BiasMeter
from tenfold.data.corpus import HoldoutDocument, load_held_out, load_tokenizer, training_documents
from tenfold.data.frequency import FEWEST, SHINGLE
from tenfold.data.isolation import OWNERS, WINDOW, own_words, window_of
from tenfold.data.manifest import COMMON_DTYPE, HoldoutText, IsolatedText, Manifest, SourceText
from tenfold.data.run_numbers import UNKNOWN, Levels, Numbers, RunNumbers, WordNumbers, words_of_runs
from tenfold.data.tokenizer import Tokenizer
from tenfold.data.words import WORD, run_ends, sized_words, sorted_unique

Mask = NDArray[np.bool_]
SEVERAL = 2  # documents
RARE_CLAIMS = 100  # about a passage of so many words
BIASED = 0.05
FEWEST_RUNS = 10
"""Runs that are lacking at least: chance alone hides a few, and a system prompt of 21 words has no more than 17."""
NONE: Numbers = np.empty(0, dtype=np.int64)


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
    biased = any(side.share > BIASED and side.lacking >= FEWEST_RUNS for side in (held_out, training))
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
class _Text:
    """A text as the audit compares it: numbers of its words and of their runs, and what each word counts for."""

    levels: list[Numbers]
    sizes: Numbers

    def ends(self, length: int) -> Numbers:
        """Where runs end: of so many words by measure, of SHINGLE words by number where `length` is 0."""
        return run_ends(self.sizes, length) if length else np.arange(SHINGLE, self.sizes.size + 1)

    def part(self, first: int, after: int) -> "_Text":
        """Some of its words."""
        return _Text([level[first:after] for level in self.levels], self.sizes[first:after])


class _HeldOut:
    """All held-out texts as one, with a word between two of them that no text has: no run goes from one to the next.

    They follow one another by the length of the runs that they are looked for by.
    """

    def __init__(self, texts: Sequence[bytes], ngram: int) -> None:
        read = [sized_words(_decoded(text)) for text in texts]
        self._words = WordNumbers([words for words, _ in read])
        rows, sizes = [self._words.of(words) for words, _ in read], [counted for _, counted in read]
        measured = [int(counted.sum()) // WORD for counted in sizes]
        self.whole = {row.tobytes() for row, words in zip(rows, measured, strict=True) if row.size and words < FEWEST}
        """Texts that are too short for a run."""
        order = sorted(range(len(rows)), key=lambda document: min(ngram, measured[document]))
        places = np.cumsum([0, *(rows[document].size + 1 for document in order)])
        self._first = dict(zip(order, places[:-1].tolist(), strict=True))
        self.sizes = [row.size for row in rows]
        """Words of each text."""
        counted, stretches = (
            _in_one_row(sizes, order, 0),
            self._stretches(order, [min(ngram, each) for each in measured]),
        )
        longest = [
            words_of_runs(run_ends(counted[first:after], own)).max() for own, (first, after) in stretches.items()
        ]
        self._levels = Levels(_in_one_row(rows, order, UNKNOWN), max([SHINGLE, *longest]))
        self.text = _Text(self._levels.own, counted)
        parts = {length: self.text.part(*stretch) for length, stretch in stretches.items()}
        self.runs = {
            length: RunNumbers(part.levels, part.ends(length)) for length, part in ({0: self.text} | parts).items()
        }
        self.numbers = {0: self.runs[0].own} | {
            length: self._numbers_of(length, first, is_longest=length == ngram)
            for length, (first, _) in stretches.items()
        }
        """Which run begins at each word of all texts, by its length."""

    def _numbers_of(self, length: int, first: int, *, is_longest: bool) -> Numbers:
        """Which run of `length` words begins where in all texts. A text that is looked for
        by shorter runs has none of the longest."""
        runs, ends = self.runs[length], self.text.ends(length)
        if not is_longest:
            return runs.of(self.text.levels, ends)
        numbers = np.full(ends.size, UNKNOWN)
        numbers[first : first + runs.own.size] = runs.own
        return numbers

    def _stretches(self, order: Sequence[int], lengths: Sequence[int]) -> dict[int, tuple[int, int]]:
        """The words of the texts whose runs are of each length."""
        found: dict[int, tuple[int, int]] = {}
        for document in order:
            if (length := lengths[document]) >= FEWEST:
                first, _ = found.get(length, (self._first[document], 0))
                found[length] = first, self._first[document] + self.sizes[document]
        return found

    def place(self, document: int, word: int) -> int:
        """Where a word of a text stands among those of all; raises IndexError where there is none."""
        if not (0 <= document < len(self.sizes) and 0 <= word < self.sizes[document]):
            raise IndexError(word)
        return int(self._first[document]) + word

    def stretch(self, document: int) -> slice:
        """The words of a text among those of all."""
        return slice(self._first[document], self._first[document] + self.sizes[document])

    def read(self, text: bytes) -> _Text:
        """A training text."""
        words, sizes = sized_words(_decoded(text))
        return _Text(self._levels.of(self._words.of(words)), sizes)

    def runs_in(self, text: _Text) -> dict[int, Numbers]:
        """Numbers of the runs of a text, by their length."""
        return {length: runs.of(text.levels, text.ends(length)) for length, runs in self.runs.items()}


def _in_one_row(rows: Sequence[Numbers], order: Sequence[int], between: int) -> Numbers:
    return np.concatenate([NONE, *(np.append(rows[number], between) for number in order)])


class _Findings:
    """What training documents have in common with held-out text."""

    def __init__(self, held_out: list[HoldoutDocument], ngram: int, common: Numbers, counted: int) -> None:
        self._ngram, self._counted = ngram, counted
        self._texts = {hashlib.sha256(document.text).digest() for document in held_out}
        self._held_out = _HeldOut([document.text for document in held_out], ngram)
        self._runs = self._held_out.runs
        self._claimed = {length: np.zeros(runs.count, dtype=bool) for length, runs in self._runs.items()}
        self._seen_in = {length: np.zeros(runs.count, dtype=np.int64) for length, runs in self._runs.items()}
        self.unknown_claims = self._claim(common)
        self._passages = _HeldOutPassages(self._held_out, self._common(self._held_out.text, self._held_out.numbers))
        self.held_out, self.documents, self.words = len(held_out), 0, 0
        self.exact: list[str] = []
        self.shared: list[str] = []
        self.near: list[str] = []
        self.nearest = 0.0

    def _claim(self, common: Numbers) -> int:
        """Note which runs are common by what the build says; returns how many are no runs of the held-out text."""
        unknown = 0
        for length, document, first in common.tolist():
            try:
                number = int(self._held_out.numbers[length][self._held_out.place(document, first)])
            except (KeyError, IndexError):
                number = UNKNOWN
            if number == UNKNOWN:
                unknown += 1
            else:
                self._claimed[length][number] = True
        return unknown

    def _common(self, text: _Text, numbers: Mapping[int, Numbers]) -> Mask:
        """For each word, whether it stands in something common."""
        marks = np.zeros(text.sizes.size + 1, dtype=np.int64)
        for length, own in numbers.items():
            at = self._where(own, self._claimed[length])
            marks[at] += 1  # no two runs of a length begin at one word, but several may end there
            marks -= np.bincount(text.ends(length)[at], minlength=marks.size)
        return np.cumsum(marks[:-1]) > 0

    @staticmethod
    def _where(numbers: Numbers, chosen: Mask) -> Numbers:
        """Which runs of a text are among the chosen ones."""
        at = np.flatnonzero(numbers != UNKNOWN)
        return at[chosen[numbers[at]]]

    def look_at(self, where: str, text: bytes) -> None:
        """Compare one training document with all held-out text."""
        read = self._held_out.read(text)
        self.documents, self.words = self.documents + 1, self.words + read.sizes.size
        if hashlib.sha256(text).digest() in self._texts or read.levels[0].tobytes() in self._held_out.whole:
            self.exact.append(where)
        numbers = self._held_out.runs_in(read)
        for length, own in numbers.items():
            self._seen_in[length][sorted_unique(own[own != UNKNOWN])] += 1
        common = self._common(read, numbers)
        if any(self._is_shared(read, length, own, common) for length, own in numbers.items() if length):
            self.shared.append(where)
        nearness = self._passages.nearness(numbers[0], common)
        self.nearest = max(self.nearest, nearness)
        if nearness >= 1:
            self.near.append(where)

    def _is_shared(self, read: _Text, length: int, numbers: Numbers, common: Mask) -> bool:
        """Whether one of these runs is shared: not common, and by half of words that are not."""
        at = self._where(numbers, ~self._claimed[length])
        if not at.size:
            return False
        ends, own = read.ends(length), np.concatenate([[0], np.cumsum(np.where(common, 0, read.sizes))])
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

    def __init__(self, held_out: _HeldOut, common: Mask) -> None:
        """`common` says which words of the held-out texts are common."""
        self._rules, have = [], []
        for document, words in enumerate(held_out.sizes):
            stretch = held_out.stretch(document)
            numbers = held_out.numbers[0][stretch][: max(0, words - SHINGLE + 1)]
            self._rules.append(window_of(_own_shingles(numbers, common[stretch]).size))
            have.append(sorted_unique(numbers))
        shingle = np.concatenate([NONE, *have])
        owner = np.repeat(np.arange(len(have)), [own.size for own in have])
        self._owners = owner[np.argsort(shingle, kind="stable")]
        """Documents that have shingle 0, then those that have shingle 1 …"""
        self._first = np.concatenate([[0], np.cumsum(np.bincount(shingle, minlength=held_out.runs[0].count))])

    def nearness(self, numbers: Numbers, common: Mask) -> float:
        """The most shingles that a passage shares with one held-out document, over those that make it a near-copy."""
        if not (numbers != UNKNOWN).any():
            return 0.0
        nearest = 0.0
        last_seen: dict[int, int] = {}
        shared_with: dict[int, deque[int]] = {}
        own = _own_shingles(numbers, common)
        at = np.flatnonzero(own != UNKNOWN)
        for position, number in zip(at.tolist(), own[at].tolist(), strict=True):
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
