"""What a build took, stage by stage: written beside the manifest, in which nothing of time or machine stands."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tenfold.data.paths import BUILD_RECORD
from tenfold.data.tasks.job import BuildJob

STAGES = {
    "given": "reading the holdouts",
    "read": "reading",
    "copies": "finding exact copies",
    "frames": "finding what documents are framed by",
    "signatures": "signing documents",
    "bands": "finding near-duplicates",
    "clusters": "joining near-duplicates",
    "sets": "choosing what is held out",
    "count": "counting what the holdouts share",
    "common": "finding what is common",
    "keep": "decontaminating",
    "tokenizer": "training the tokenizer",
    "tokenise": "tokenising",
    "layout": "laying out shards",
    "shards": "writing shards",
}
"""What people read of each stage, in order."""


@dataclass(frozen=True)
class StageRecord:
    """One stage. Seconds are those of all its tasks added up, in whatever process and however often it was killed."""

    stage: str
    tasks: int
    bytes: int
    """Text that it went through; 0 where it goes through hashes or names alone."""
    seconds: float
    cpu_seconds: float


def write_record(directory: Path, job: BuildJob, sizes: Mapping[str, Mapping[int, int]]) -> None:
    """Write it for the stages of a finished build, each given by the bytes of text of its tasks."""
    records = []
    for stage, own in sizes.items():
        spent = [job.spent(stage, number) for number in own]
        seconds, used = sum(each.seconds for each in spent), sum(each.cpu_seconds for each in spent)
        records.append(StageRecord(stage, len(own), sum(own.values()), round(seconds, 3), round(used, 3)))
    (directory / BUILD_RECORD).write_text(json.dumps([asdict(each) for each in records], indent=1), encoding="utf-8")


def load_record(directory: Path) -> list[StageRecord]:
    """What the build of a corpus took; empty where no record can be read, as of one that an older version built."""
    try:
        return [StageRecord(**each) for each in json.loads((directory / BUILD_RECORD).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
