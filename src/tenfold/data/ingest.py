"""The first part of the build: read every record once, clean it, and lay what is kept into a store on disk."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Self, TextIO

import numpy as np
from numpy.typing import NDArray

from tenfold.config import Data, Source
from tenfold.core import InputError, Progress
from tenfold.data.clean import Document, Funnel, Mended, Reject
from tenfold.data.sources import read_source
from tenfold.data.words import hash_words

Hashes = NDArray[np.uint64]
NO_WORDS: Hashes = np.empty(0, dtype=np.uint64)


@dataclass
class DocumentStore:
    """Append documents, then read them back by number. Memory holds offsets only."""

    directory: Path
    with_words: bool = True
    """Whether to hash the words of each document too."""
    sources: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    _text_ends: list[int] = field(default_factory=lambda: [0])
    _word_ends: list[int] = field(default_factory=lambda: [0])

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._text = (self.directory / "text").open("w+b")
        self._words = (self.directory / "words").open("w+b")
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._words):  # also where a full disk keeps the text from being flushed
            self._text.close()

    def __len__(self) -> int:
        return len(self.sources)

    def append(self, source: str, where: str, text: str) -> int:
        """Add a document; returns its number."""
        content = text.encode()
        self._text.seek(0, os.SEEK_END)  # a read may have left it elsewhere
        self._text.write(content)
        hashes = hash_words(text) if self.with_words else NO_WORDS
        self._words.seek(0, os.SEEK_END)
        self._words.write(hashes.tobytes())
        self.sources.append(source)
        self.where.append(where)
        self._text_ends.append(self._text_ends[-1] + len(content))
        self._word_ends.append(self._word_ends[-1] + hashes.size)
        return len(self.sources) - 1

    def size(self, number: int) -> int:
        """Bytes of a document."""
        return self._text_ends[number + 1] - self._text_ends[number]

    def text(self, number: int) -> str:
        """Text of a document."""
        self._text.seek(self._text_ends[number])
        return self._text.read(self.size(number)).decode()

    def words(self, number: int) -> Hashes:
        """Hash of each word of a document, in order."""
        first, last = self._word_ends[number], self._word_ends[number + 1]
        self._words.seek(first * 8)
        return np.frombuffer(self._words.read((last - first) * 8), dtype=np.uint64)

    def of_source(self, source: str) -> Iterator[int]:
        """Numbers of one source's documents, in order."""
        return (number for number, name in enumerate(self.sources) if name == source)


Report = Callable[[Progress], None]
SECONDS_BETWEEN_REPORTS = 0.5


class RejectLog:
    """rejects.jsonl: every record that was not kept, where it stood and why; and texts that were mended."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def add(self, found: Reject | Mended) -> None:
        """Write one as a line of JSON."""
        self._handle.write(json.dumps(found.to_dict(), ensure_ascii=True) + "\n")


def name_sources(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Every source with its name; equal names are numbered, past names that are taken."""
    wanted = [source.name or source.kind for source in sources]
    taken = {name for name in wanted if wanted.count(name) == 1}
    named = []
    for name, source in zip(wanted, sources, strict=True):
        numbered = (f"{name}-{number}" for number in count(1))
        own = name if wanted.count(name) == 1 else next(other for other in numbered if other not in taken)
        taken.add(own)
        named.append((own, source))
    return named


def ingest_sources(
    sources: Sequence[tuple[str, Source]],
    data: Data,
    base: Path,
    store: DocumentStore,
    funnel: Funnel,
    rejects: RejectLog,
    report: Report,
) -> None:
    """Read, clean and drop exact copies. Raises InputError when a source has no usable text at all."""
    seen = {_digest(store.text(number)): store.where[number] for number in range(len(store))}
    for name, source in sources:
        before, copies, rejected_before = len(store), 0, Counter(funnel.rejected)
        documents = _documents(source, name, data, base, funnel, rejects, _Pulse(name, report))
        for document in islice(documents, source.max_documents):
            digest = _digest(document.text)
            if digest in seen:
                size = len(document.text.encode())
                copies += 1
                funnel.exact_duplicates_bytes += size
                rejects.add(Reject(name, document.where, "exact-duplicate", seen[digest], size))
                continue
            seen[digest] = document.where
            store.append(name, document.where, document.text)
        funnel.exact_duplicates += copies
        if len(store) == before and not copies:
            raise InputError(f"source {name!r}: no usable text ({_why(Counter(funnel.rejected) - rejected_before)})")


def _documents(
    source: Source, name: str, data: Data, base: Path, funnel: Funnel, rejects: RejectLog, pulse: "_Pulse"
) -> Iterator[Document]:
    for found in read_source(source, name, base, data.read, data.clean):
        pulse.beat()
        funnel.count(found)
        if isinstance(found, Document):
            yield found
        else:
            rejects.add(found)


class _Pulse:
    """Reports the number of records now and then."""

    def __init__(self, name: str, report: Report) -> None:
        self._stage, self._report = f"reading {name}", report
        self._count, self._last = 0, float("-inf")

    def beat(self) -> None:
        """Count one record and say now and then how far it is."""
        self._count += 1
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_REPORTS:
            self._last = now
            self._report(Progress(self._stage, self._count, None, "records"))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _why(reasons: Counter[str]) -> str:
    """What was wrong with the records, for one line."""
    if not reasons:
        return "it has no records"
    return ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
