"""One build as its tasks see it: what was asked for, which parts the documents lie in, what each task came to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from tenfold.config import Data, Source
from tenfold.core import TenfoldError
from tenfold.data.ingest import Report, name_sources
from tenfold.data.reading.inputs import InputFile
from tenfold.data.tasks.store import WorkFiles, open_work
from tenfold.data.tasks.tables import Integers, Keys, Rows, key_bounds

PLAN = "plan.json"
PARTS = "parts.json"
Result = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What one task reads: files of one source, none where it is no matter of files."""

    source: int
    files: list[InputFile]
    split_bytes: int
    """Longer texts are cut into documents of at most this size."""

    @classmethod
    def of(cls, value: dict[str, Any]) -> Self:
        """From what `asdict` gave."""
        return cls(value["source"], [InputFile(**file) for file in value["files"]], value["split_bytes"])

    @property
    def bytes(self) -> int:
        """Bytes to read, as they are stored."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class BuildPlan:
    """What a build is made from and how it is cut into tasks. The cut changes no byte of the corpus."""

    token: str
    """Says which build this is: tasks of another one in the same place are not to be mixed with it."""
    data: dict[str, Any]
    seed: int
    base: str
    part_bytes: int
    """Text in one part, about."""
    buckets: int
    """Ranges of hashes; each is merged alone, in memory."""
    durable: bool
    """Whether what tasks write is to survive a power cut. Syncing a small build would take longer than the build."""
    readings: list[Reading]


@dataclass(frozen=True)
class DocumentPart:
    """Documents one after the other, numbered from `first` on over the whole build; part 0 holds the holdouts."""

    name: str
    source: str
    first: int
    count: int
    bytes: int

    @property
    def after(self) -> int:
        """The number after its last document's."""
        return self.first + self.count


@dataclass(frozen=True)
class Spent:
    """What a task took: seconds of the clock, and of its process's CPUs."""

    seconds: float
    cpu_seconds: float


class BuildJob:
    """A build in its work folder. What is cached here was written once and does not change any more."""

    def __init__(self, store: WorkFiles, plan: BuildPlan) -> None:
        self.store, self.plan = store, plan
        store.durable = plan.durable
        self.report: Report = lambda _: None
        self.data, self.base = Data.model_validate(plan.data), Path(plan.base)
        self.sources: list[tuple[str, Source]] = name_sources(self.data.sources)

    @cached_property
    def parts(self) -> list[DocumentPart]:
        """All parts in order, once all is read."""
        return [DocumentPart(**part) for part in json.loads(self.store.read(PARTS))]

    @cached_property
    def part_starts(self) -> Integers:
        """Number of the first document of each part."""
        return np.asarray([part.first for part in self.parts], dtype=np.int64)

    @property
    def bounds(self) -> Keys:
        """Least hash of each bucket but the first."""
        return key_bounds(self.plan.buckets)

    @property
    def part_bounds(self) -> Keys:
        """For runs by document number, of which each bucket is a part."""
        return self.part_starts[1:].astype(np.uint64)

    @property
    def documents(self) -> int:
        """Documents of the build, held-out ones included."""
        return self.parts[-1].after

    def texts(self, part: DocumentPart) -> Rows:
        """Text of each document of a part."""
        return Rows(self.store, f"{part.name}.text")

    def where(self, part: DocumentPart) -> Rows:
        """Where each document of a part stood."""
        return Rows(self.store, f"{part.name}.where")

    def wheres(self, numbers: Sequence[int]) -> dict[int, str]:
        """Where documents stood, each part opened once."""
        found: dict[int, str] = {}
        ordered = np.unique(np.asarray(numbers, dtype=np.int64))
        owners = np.searchsorted(self.part_starts, ordered, side="right") - 1
        for owner in np.unique(owners).tolist():
            part = self.parts[owner]
            rows = self.where(part)
            for number in ordered[owners == owner].tolist():
                found[number] = rows[number - part.first].decode()
        return found

    def result(self, stage: str, number: int) -> Result:
        """What a finished task came to."""
        value: Result = json.loads(self.store.read(result_name(stage, number)))["result"]
        return value

    def spent(self, stage: str, number: int) -> Spent:
        """What a finished task took."""
        return Spent(**json.loads(self.store.read(result_name(stage, number)))["spent"])

    def results(self, stage: str, count: int) -> list[Result]:
        """What all tasks of a stage came to."""
        return [self.result(stage, number) for number in range(count)]

    def training_results(self, stage: str) -> dict[int, Result]:
        """What the tasks of a stage came to that has one for each part but the held-out one, by part."""
        return {number: self.result(stage, number) for number in range(1, len(self.parts))}

    def finish(self, stage: str, number: int, result: Result, spent: Spent) -> None:
        """Note that a task is done; written after all that it names."""
        value = {"result": result, "spent": asdict(spent)}
        self.store.write(result_name(stage, number), json.dumps(value).encode())

    def finished(self, stage: str) -> set[int]:
        """Numbers of the tasks of a stage that are done."""
        return {int(name[:-5]) for name in self.store.names(f"{stage}.done")}


def result_name(stage: str, number: int) -> str:
    """File of a task's result."""
    return f"{stage}.done/{number:06d}.json"


def start_job(store: WorkFiles, plan: BuildPlan) -> tuple[BuildJob, bool]:
    """The build that lies in `store` if it is this one, else a new one; whether it is new."""
    try:
        before = json.loads(store.read(PLAN))
    except (FileNotFoundError, ValueError):
        before = None
    is_new = before != asdict(plan)
    if is_new:
        open_job.cache_clear()
        store.clear(first=PLAN)
        store.write(PLAN, json.dumps(asdict(plan)).encode())
    return open_job(store.address, plan.token), is_new


@lru_cache(maxsize=2)
def open_job(address: str, token: str) -> BuildJob:
    """The build that lies at an address. Raises TenfoldError when another one does by now."""
    store = open_work(address)
    value = json.loads(store.read(PLAN))
    if value["token"] != token:
        raise TenfoldError(f"{address}: another build works here by now; run again")
    return BuildJob(store, BuildPlan(**{**value, "readings": [Reading.of(each) for each in value["readings"]]}))
