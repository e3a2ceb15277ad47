"""The first part of the build: read every record once, clean it, and lay what is kept into the store."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

from tenfold.config import Clean, Source
from tenfold.data.clean import clean
from tenfold.data.holdouts import HeldOut
from tenfold.data.records import Document, Funnel, Progress, RawRecord, Reject
from tenfold.data.sources import read_source
from tenfold.data.store import DocumentStore
from tenfold.errors import InputError

Report = Callable[[Progress], None]
SECONDS_BETWEEN_REPORTS = 0.5


class RejectLog:
    """rejects.jsonl: every record that was not kept, where it stood and why; counted by reason."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self.counts: Counter[str] = Counter()

    def add(self, reject: Reject) -> None:
        """Write one line."""
        self.counts[reject.reason] += 1
        self._handle.write(json.dumps(reject.to_dict(), ensure_ascii=True) + "\n")


def name_sources(sources: Sequence[Source]) -> list[tuple[str, Source]]:
    """Every source with its name; equal names are numbered."""
    wanted = [source.name or source.kind for source in sources]
    taken: Counter[str] = Counter()
    named = []
    for name, source in zip(wanted, sources, strict=True):
        taken[name] += 1
        named.append((name if wanted.count(name) == 1 else f"{name}-{taken[name]}", source))
    return named


def ingest_holdouts(given: dict[str, list[HeldOut]], store: DocumentStore) -> dict[str, list[int]]:
    """Lay the given evaluation sets into the store, before any training text. Returns their numbers."""
    return {
        name: [store.append(name, document.where, document.text) for document in documents]
        for name, documents in given.items()
    }


def ingest_sources(
    sources: Sequence[tuple[str, Source]],
    limits: Clean,
    base: Path,
    store: DocumentStore,
    funnel: Funnel,
    rejects: RejectLog,
    report: Report,
) -> None:
    """Read, clean and drop exact copies. Raises InputError when a source has no usable text at all."""
    seen = {_digest(store.text(number)) for number in range(len(store))}
    for name, source in sources:
        before, rejected_before = len(store), rejects.counts.copy()
        documents = _documents(read_source(source, name, base), limits, funnel, rejects, _Pulse(name, report))
        copies = 0
        for document in islice(documents, source.max_documents):
            digest = _digest(document.text)
            if digest in seen:
                copies += 1
                rejects.add(Reject(name, document.where, "exact-duplicate"))
                continue
            seen.add(digest)
            store.append(name, document.where, document.text)
        funnel.exact_duplicates += copies
        if len(store) == before and not copies:
            raise InputError(f"source {name!r}: no usable text ({_why(rejects.counts - rejected_before)})")


def _documents(
    records: Iterator[RawRecord | Reject], limits: Clean, funnel: Funnel, rejects: RejectLog, pulse: "_Pulse"
) -> Iterator[Document]:
    for record in records:
        funnel.documents_in += 1
        pulse.beat()
        if isinstance(record, RawRecord):
            funnel.bytes_in += len(record.content)
        result = clean(record, limits) if isinstance(record, RawRecord) else record
        if isinstance(result, Reject):
            rejects.add(result)
        else:
            yield result


class _Pulse:
    """Reports the number of records now and then."""

    def __init__(self, name: str, report: Report) -> None:
        self._stage, self._report = f"reading {name}", report
        self._count, self._last = 0, float("-inf")

    def beat(self) -> None:
        """Count one record."""
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
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
