"""Text the model is judged on: evaluation sets that are given, and the split taken from the sources."""

import hashlib
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenfold.config import Clean, Holdout, Source
from tenfold.data.clean import clean
from tenfold.data.duplicates import Clusters
from tenfold.data.records import RawRecord, Reject
from tenfold.data.sources import expand_paths, read_files, read_source
from tenfold.data.store import DocumentStore
from tenfold.errors import InputError

# Prose and C headers most machines have; what only some have is simply not there on the others.
SYSTEM_PROSE = (
    "/usr/share/common-licenses/*",
    "/usr/share/doc/**/README*",
    "/usr/share/doc/**/*.txt",
    "/usr/share/man/man[1-8]/*",
    "/usr/include/*.h",
    "/usr/include/linux/*.h",
)
PACKAGE_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class HeldOut:
    """One document of a holdout."""

    where: str
    text: str


def read_holdout(holdout: Holdout, clean_limits: Clean, base: Path, seed: int) -> list[HeldOut]:
    """The documents of a given evaluation set. Raises InputError when there is no usable text."""
    documents = [
        HeldOut(record.where, record.text)
        for raw in _raw_records(holdout, base)
        if isinstance(raw, RawRecord) and not isinstance(record := clean(raw, clean_limits), Reject)
    ]
    if not documents:
        raise InputError(f"holdout {holdout.name!r} ({holdout.kind}): no usable text; name other paths or leave it out")
    distinct = list({document.text: document for document in documents}.values())
    return limit_bytes(distinct, holdout.max_bytes, seed)


def _raw_records(holdout: Holdout, base: Path) -> Iterator[RawRecord | Reject]:
    match holdout.kind:
        case "system-prose":
            yield from read_files(holdout.name, _system_prose(), Path("/"))
        case "tenfold-source":
            yield from read_files(holdout.name, sorted(PACKAGE_ROOT.rglob("*.py")), PACKAGE_ROOT.parent)
        case "files" | "jsonl" | "parquet":
            source = Source(kind=holdout.kind, paths=holdout.paths, text_key=holdout.text_key)
            yield from read_source(source, holdout.name, base)


def _system_prose() -> list[Path]:
    """Installed prose; where a machine has none, the interpreter's own C headers."""
    for patterns in (SYSTEM_PROSE, (f"{sysconfig.get_path('include')}/**/*.h",)):
        found: list[Path] = []
        for pattern in patterns:
            try:
                found += expand_paths([pattern], Path("/"))
            except InputError:
                continue  # this machine lacks that kind
        if found:
            return sorted({path.resolve() for path in found if path.suffix != ".gz"})
    return []


def limit_bytes(documents: Sequence[HeldOut], max_bytes: int | None, seed: int) -> list[HeldOut]:
    """Whole documents, chosen by the seed and their text, up to `max_bytes`; in their first order."""
    chosen, total = set(), 0
    for document in sorted(documents, key=lambda document: draw(seed, document.text)):
        size = len(document.text.encode())
        if max_bytes is None or total + size <= max_bytes:
            chosen.add(document.where)
            total += size
    return [document for document in documents if document.where in chosen]


def draw(seed: int, text: str) -> bytes:
    """A random number that belongs to a text: adding other documents to a corpus does not change who is drawn."""
    return hashlib.sha256(f"{seed}:".encode() + text.encode()).digest()


def choose_split(holdout: Holdout, store: DocumentStore, clusters: Clusters, taken: set[int], seed: int) -> list[int]:
    """Representatives of the clusters to hold out, `fraction` of all documents, at most `max_bytes`.

    Raises InputError when the corpus is too small to hold out anything.
    """
    representatives = [n for n in range(len(store)) if clusters.find(n) == n and n not in taken]
    wanted = max(1, round(holdout.fraction * len(representatives)))
    chosen: list[int] = []
    total = 0
    for number in sorted(representatives, key=lambda number: draw(seed, store.text(number))):
        if len(chosen) == wanted:
            break
        if holdout.max_bytes is None or total + store.size(number) <= holdout.max_bytes:
            chosen.append(number)
            total += store.size(number)
    if not chosen or len(chosen) == len(representatives):
        raise InputError(
            f"holdout {holdout.name!r}: {len(representatives)} distinct documents are too few to hold out "
            f"{holdout.fraction:.1%} (at most {holdout.max_bytes} bytes); give more text or set max_bytes higher"
        )
    return sorted(chosen)
