"""First stages: files to clean documents in parts of equal size, then exact copies found by their hashes."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from tenfold.data.clean import Document, Found, Funnel, Reject, reject_line
from tenfold.data.holdouts import draw_number
from tenfold.data.reading.files import MISSING_KEY, UNREADABLE, read_each
from tenfold.data.reading.inputs import InputFile
from tenfold.data.sources import each_is_of_key, read_hugging_face, source_reader
from tenfold.data.tasks.beat import worked_off
from tenfold.data.tasks.job import BuildJob, Reading, Result
from tenfold.data.tasks.store import WorkFiles
from tenfold.data.tasks.tables import Keys, group_starts, read_bucket, write_rows, write_run

DIGEST_COLUMNS = 3
"""First and second half of the hash, number in its part."""
DRAW_COLUMNS = 3
"""Number drawn, bytes, number of the document."""
COPY_COLUMNS = 2
"""Number of a document, number of the first one that is the same."""


class PartWriter:
    """Collects documents and writes them as parts of about `part_bytes` of text each."""

    def __init__(self, store: WorkFiles, prefix: str, part_bytes: int, bounds: Keys) -> None:
        self._store, self._prefix = store, prefix
        self._part_bytes, self._bounds = part_bytes, bounds
        self._bytes = self._count = 0
        self._texts: list[bytes] = []
        self._where: list[bytes] = []
        self.parts: list[dict[str, int | str]] = []

    def append(self, where: str, text: str) -> int:
        """Add a document; returns its number, counted from this writer's first on."""
        content = text.encode()
        self._texts.append(content)
        self._where.append(where.encode("utf-8", errors="backslashreplace"))
        self._bytes += len(content)
        worked_off(len(content))
        self._count += 1
        if self._bytes >= self._part_bytes:
            self.flush()
        return self._count - 1

    def close(self) -> list[dict[str, int | str]]:
        """Write what is left; returns name, documents and bytes of every part."""
        if self._texts:
            self.flush()
        return self.parts

    def flush(self) -> None:
        """Write a part."""
        name = f"{self._prefix}-{len(self.parts):06d}"
        write_rows(self._store, f"{name}.text", self._texts)
        write_rows(self._store, f"{name}.where", self._where)
        write_run(self._store, f"{name}.digests", digest_rows(self._texts), self._bounds)
        self.parts.append({"name": name, "count": len(self._texts), "bytes": self._bytes})
        self._bytes = 0
        self._texts, self._where = [], []


def digest_rows(texts: list[bytes]) -> Keys:
    """Half of the sha256 of each text, as two numbers, and its place, [texts, 3]."""
    hashes = b"".join(hashlib.sha256(text).digest()[:16] for text in texts)
    halves = np.frombuffer(hashes, dtype=np.uint64).reshape(-1, 2)
    return np.column_stack([halves, np.arange(len(texts), dtype=np.uint64)])


def draw_rows(seed: int, texts: Sequence[bytes], numbers: Sequence[int]) -> Keys:
    """(number drawn, bytes, number) of each text, [texts, 3]."""
    rows = [(draw_number(seed, text), len(text), number) for text, number in zip(texts, numbers, strict=True)]
    return np.asarray(rows, dtype=np.uint64).reshape(-1, DRAW_COLUMNS)


def group_files(files: Sequence[InputFile], source: int, part_bytes: int, split_bytes: int) -> Iterator[Reading]:
    """Files one after the other, as many as make about a part."""
    group: list[InputFile] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.size
        if size >= part_bytes:
            yield Reading(source, group, split_bytes)
            group, size = [], 0
    if group:
        yield Reading(source, group, split_bytes)


def read(job: BuildJob, number: int) -> Result:
    """Read and clean some files of one source; the documents lie in one part or more afterwards."""
    reading = job.plan.readings[number]
    source = job.sources[reading.source][1]
    writer = PartWriter(job.store, f"documents/{number:06d}", job.plan.part_bytes, job.bounds)
    sieve = _Sieve()
    for document in islice(sieve.documents(_found(job, reading)), source.max_documents):
        writer.append(document.where, document.text)
    write_rows(job.store, f"rejects/read-{number:06d}", sieve.lost)
    return {"parts": writer.close(), "funnel": sieve.funnel.to_dict(), "seen": sieve.seen()}


def _found(job: BuildJob, reading: Reading) -> Iterator[Found]:
    name, source = job.sources[reading.source]
    whole = source_reader(source, name, job.base, job.data.read, job.data.clean, reading.files)
    reader = replace(whole, split_bytes=reading.split_bytes)
    return read_hugging_face(source, reader) if source.kind == "hf" else read_each(reader, reading.files)


class _Sieve:
    """Lets documents through, and keeps what was lost on the way."""

    def __init__(self) -> None:
        self.funnel, self.lost = Funnel(), list[bytes]()
        self._good, self._keys, self._bad = False, dict[str, None](), list[Reject]()

    def documents(self, found: Iterator[Found]) -> Iterator[Document]:
        """All documents in order."""
        for each in found:
            self.funnel.count(each)
            if isinstance(each, Document):
                self._good = True
                yield each
                continue
            self.lost.append(reject_line(each))
            self._good = self._good or each_is_of_key(each)
            if isinstance(each, Reject) and each.reason in (MISSING_KEY, UNREADABLE):
                self._bad = self._bad or [each]
                self._keys |= dict.fromkeys(each.detail.split(", ") if each.reason == MISSING_KEY else ())

    def seen(self) -> dict[str, Any]:
        """Whether any record was good; else what there was instead, for one line."""
        return {"good": self._good, "keys": list(self._keys), "bad": self._bad[0].to_dict() if self._bad else None}


def copies(job: BuildJob, bucket: int) -> Result:
    """Find the documents that are the same, byte for byte, as an earlier one. Those held out are nobody's copies."""
    names = [f"{part.name}.digests" for part in job.parts]
    begins = [part.first for part in job.parts]
    rows = read_bucket(job.store, names, bucket, job.plan.buckets, DIGEST_COLUMNS, begins)
    order = np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))
    numbers = rows[order, 2]
    starts = group_starts(rows[order, 0], rows[order, 1])
    firsts = np.repeat(numbers[starts[:-1]], np.diff(starts))
    again = (firsts != numbers) & (numbers >= job.parts[0].count)
    found = np.column_stack([numbers[again], firsts[again]])
    write_run(job.store, f"copies/{bucket:06d}", found, job.part_bounds)
    return {"copies": int(again.sum())}
