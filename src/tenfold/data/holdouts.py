"""Text the model is judged on: evaluation sets that are given, and the split taken from the sources.

tenfold's own source is kept out of every corpus, a holdout or not: a model that has read the code of the system that
trains and judges it is no clean subject, and a `monorepo` holdout added later must still be fair.
"""

import hashlib
import sysconfig
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tenfold.config import Holdout, Read, Source
from tenfold.core import InputError
from tenfold.data.clean import Document, Found, Mended, Reject
from tenfold.data.listing import expand_paths
from tenfold.data.paths import walk
from tenfold.data.reading.cutting import cut_text
from tenfold.data.reading.inputs import InputFile
from tenfold.data.sources import read_source, read_texts, source_files

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
PROJECT_TEXT = {".py", ".md", ".toml", ".json", ".jinja", ".txt", ".sh", ".yml", ".yaml", ".html", ".css", ".js"}
PROJECT_PARTS = ("tests", "docs", "benchmarks", "README.md", "pyproject.toml")
HOLDOUT_PATHS = "data.holdouts.paths"


@dataclass(frozen=True)
class HeldOut:
    """One document of a holdout."""

    where: str
    text: str


@dataclass(frozen=True)
class EvaluationSet:
    """A given evaluation set: what is scored, and what is only kept out of training."""

    scored: list[HeldOut]
    rest: list[HeldOut]


def read_holdout(
    holdout: Holdout, base: Path, seed: int, read: Read, note: Callable[[Reject | Mended], None]
) -> EvaluationSet:
    """A given evaluation set, whole; `note` is told of records that cannot be used, and of what was mended.

    Raises InputError when none can be used.
    """
    documents: dict[str, HeldOut] = {}
    for result in _found(holdout, base, read):
        if isinstance(result, Reject | Mended):
            note(result)
        elif not result.text.strip():
            note(Reject(result.source, result.where, "empty"))
        elif result.text in documents:
            note(Reject(result.source, result.where, "exact-duplicate", documents[result.text].where))
        else:
            documents[result.text] = HeldOut(result.where, result.text)
    if not documents:
        raise InputError(f"holdout {holdout.name!r} ({holdout.kind}): no usable text; name other paths or leave it out")
    return _limit_bytes(list(documents.values()), holdout.max_bytes, seed)


def holdout_files(holdout: Holdout, base: Path) -> list[InputFile]:
    """Every file a holdout is read from."""
    match holdout.kind:
        case "split":
            return []
        case "system-prose":
            return [InputFile.local(path) for path in _system_prose()]
        case "tenfold-source":
            return [InputFile.local(path) for path in project_files()]
        case _:
            return source_files(as_source(holdout), base, HOLDOUT_PATHS)


def _found(holdout: Holdout, base: Path, read: Read) -> Iterator[Found]:
    name = f"holdout {holdout.name}"
    match holdout.kind:
        case "system-prose":
            return read_texts(name, _system_prose(), Path("/"))
        case "tenfold-source":
            return read_texts(name, project_files(), PACKAGE_ROOT.parent)
        case _:
            return read_source(as_source(holdout), name, base, read, None, HOLDOUT_PATHS)


def as_source(holdout: Holdout) -> Source:
    """A given set of files as the source that reads it."""
    key = {"text_key": holdout.text_key} if holdout.kind != "files" else {}
    return Source.model_validate({"kind": holdout.kind, "paths": holdout.paths, "encoding": holdout.encoding, **key})


def project_texts() -> list[HeldOut]:
    """tenfold's own text, document by document."""
    return _read_project(tuple(InputFile.local(path) for path in project_files()))


@lru_cache(maxsize=1)
def _read_project(files: tuple[InputFile, ...]) -> list[HeldOut]:
    """Read once in a process, as long as it does not change."""
    found = read_texts("", [Path(file.name) for file in files], PACKAGE_ROOT.parent)
    texts = [HeldOut(each.where, each.text) for each in found if isinstance(each, Document)]
    return list({document.text: document for document in texts if document.text.strip()}.values())


def project_files() -> list[Path]:
    """Files of tenfold's own text: the package, and in a source checkout tests, documentation and benchmarks too."""
    roots = [PACKAGE_ROOT]
    checkout = PACKAGE_ROOT.parents[1]
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError):
        project = None
    if project == "tenfold":
        roots += [checkout / part for part in PROJECT_PARTS]
    found = [path for root in roots for path in (walk(root) if root.is_dir() else [root])]
    return sorted(path for path in found if path.suffix in PROJECT_TEXT and path.is_file())


def _system_prose() -> list[Path]:
    """Installed prose; where a machine has none, the interpreter's own C headers."""
    for patterns in (SYSTEM_PROSE, (f"{sysconfig.get_path('include')}/**/*.h",)):
        found: list[Path] = []
        for pattern in patterns:
            try:
                found += [Path(file.name) for file in expand_paths([pattern], Path("/"), "files", HOLDOUT_PATHS)]
            except InputError:
                continue  # this machine lacks that kind
        if found:
            return sorted({path.resolve() for path in found if path.suffix != ".gz"})
    return []


def _limit_bytes(documents: Sequence[HeldOut], max_bytes: int, seed: int) -> EvaluationSet:
    """Score whole documents, chosen by the seed and their text, up to `max_bytes` (0: all); in first order.

    Where none fits, the first one chosen is scored up to there, and all of it is kept out of training.
    """
    order = sorted(range(len(documents)), key=lambda number: draw(seed, documents[number].text))
    sizes = {number: len(documents[number].text.encode()) for number in order}
    chosen = set(_up_to(order, sizes, max_bytes)) if max_bytes else set(order)
    scored = [document for number, document in enumerate(documents) if number in chosen]
    if not scored:
        first = documents[order[0]]
        scored = [HeldOut(f"{first.where}#1", cut_text(first.text, max_bytes)[0])]
    return EvaluationSet(scored, [document for number, document in enumerate(documents) if number not in chosen])


def _up_to(order: Sequence[int], sizes: Mapping[int, int], max_bytes: int) -> Iterator[int]:
    """Those that fit into `max_bytes` one after the other."""
    total = 0
    for number in order:
        if total + sizes[number] <= max_bytes:
            total += sizes[number]
            yield number


def draw(seed: int, text: str) -> bytes:
    """A random number that belongs to a text: adding other documents to a corpus does not change who is drawn."""
    return hashlib.sha256(f"{seed}:".encode() + text.encode()).digest()


def draw_number(seed: int, content: bytes) -> int:
    """The first 64 bits of `draw`."""
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + content).digest()[:8], "big")


OWN_SOURCE = "tenfold's own source"


@dataclass(frozen=True)
class HeldOutSet:
    """Numbers of one holdout's documents in the store. `kind` is None for text that is no holdout."""

    name: str
    kind: str | None
    scored: list[int]
    rest: list[int]

    @property
    def numbers(self) -> list[int]:
        """Numbers of all documents held out."""
        return self.scored + self.rest

    @property
    def rest_file(self) -> str:
        """Where the rest is stored; a holdout's name has no dot, so these are nobody else's."""
        return f"holdouts/{self.name}.rest.bin" if self.kind else "holdouts/tenfold.source.bin"

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def read_sets(
    holdouts: Sequence[Holdout],
    base: Path,
    seed: int,
    read: Read,
    append: Callable[[str, str], int],
    note: Callable[[Reject | Mended], None],
) -> list[HeldOutSet]:
    """The given evaluation sets, and tenfold's own source.

    `append` takes where each document stood and its text, and gives its number.
    """

    def lay(documents: Sequence[HeldOut]) -> list[int]:
        return [append(document.where, document.text) for document in documents]

    sets = []
    for holdout in holdouts:
        if holdout.kind != "split":
            given = read_holdout(holdout, base, seed, read, note)
            sets.append(HeldOutSet(holdout.name, holdout.kind, lay(given.scored), lay(given.rest)))
    if not any(holdout.kind == "tenfold-source" for holdout in holdouts):
        sets.append(HeldOutSet(OWN_SOURCE, None, [], lay(project_texts())))
    return sets
