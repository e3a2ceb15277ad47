"""First stages: files to clean documents in parts of equal size, then exact copies found by their hashes."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.config import Source
from tenfold.data.clean import Document, Funnel, RawRecord, Reject, clean
from tenfold.data.holdouts import draw_number
from tenfold.data.sources import MISSING_KEY, UNREADABLE, read_some
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


def group_files(files: Sequence[Path], source: int, part_bytes: int, split_bytes: int) -> Iterator[Reading]:
    """Files one after the other, as many as make about a part."""
    group: list[str] = []
    size = 0
    for path in files:
        group.append(str(path))
        size += path.stat().st_size
        if size >= part_bytes:
            yield Reading(source, group, size, split_bytes)
            group, size = [], 0
    if group:
        yield Reading(source, group, size, split_bytes)


def read(job: BuildJob, number: int) -> Result:
    """Read and clean some files of one source; the documents lie in one part or more afterwards."""
    reading = job.plan.readings[number]
    name, source = job.sources[reading.source]
    writer = PartWriter(job.store, f"documents/{number:06d}", job.plan.part_bytes, job.bounds)
    reader = _Reader(job, source, name, reading)
    for document in islice(reader.documents(), source.max_documents):
        writer.append(document.where, document.text)
    write_rows(job.store, f"rejects/read-{number:06d}", [reject.to_line() for reject in reader.rejects])
    return {"parts": writer.close(), "funnel": reader.funnel.to_dict(), "seen": reader.seen()}


class _Reader:
    """Records to documents, and what was lost on the way."""

    def __init__(self, job: BuildJob, source: Source, name: str, reading: Reading) -> None:
        self._job, self._source, self._name, self._reading = job, source, name, reading
        self.funnel, self.rejects = Funnel(), list[Reject]()
        self._good, self._keys, self._bad = 0, dict[str, None](), dict[str, Reject]()

    def documents(self) -> Iterator[Document]:
        """All documents in order."""
        limits, size = self._job.data.clean, self._reading.split_bytes
        files = [Path(file) for file in self._reading.files]
        for record in read_some(self._source, self._name, self._job.base, files):
            self._note(record)
            for result in clean(record, limits, size) if isinstance(record, RawRecord) else (record,):
                self.funnel.documents_in += 1
                if isinstance(result, Document):
                    yield result
                else:
                    self.rejects.append(result)
                    self.funnel.note_reject(result)

    def _note(self, record: RawRecord | Reject) -> None:
        if isinstance(record, RawRecord):
            self.funnel.bytes_in += len(record.content)
            self._good += 1
            return
        self.funnel.bytes_in += record.bytes
        if record.reason == MISSING_KEY:
            self._keys |= dict.fromkeys(record.detail.split(", "))
        if record.reason in (MISSING_KEY, UNREADABLE):
            self._bad.setdefault("first", record)

    def seen(self) -> dict[str, Any]:
        """Whether any record was good; else what there was instead, for one line."""
        bad = self._bad.get("first")
        return {"good": self._good, "keys": list(self._keys), "bad": bad.to_dict() if bad else None}


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
