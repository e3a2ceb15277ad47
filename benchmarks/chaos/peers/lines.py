"""What workers write: one JSON line for each start and each committed step."""

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Branch = tuple[str, int]
"""An id drawn when weights were loaded from a checkpoint or initialised, and after how many steps that was."""


def now() -> float:
    """Seconds of CLOCK_MONOTONIC, the same clock in every process of the machine."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class Line:
    """A committed step, or with step 0 and no tokens the start of a process.

    `step` counts from 1, `tokens` are those whose gradient went into the step (0 for a replica that only caught up),
    `loss` is in nats per token over this replica's share. `lineage` says which weights the step was made on: every
    restart from a checkpoint adds a branch, and a step counts if the weights at the end descend from it.
    """

    time: float
    pid: int
    step: int = 0
    tokens: int = 0
    loss: float = 0.0
    lineage: tuple[Branch, ...] = ()

    @property
    def is_start(self) -> bool:
        """Whether it says that a process started."""
        return not self.lineage


def write(path: Path, line: Line) -> None:
    """Append in one write, so that a kill leaves no half line behind another process's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (json.dumps(asdict(line)) + "\n").encode())
    finally:
        os.close(descriptor)


@dataclass
class Tail:
    """The lines of one worker's file, read as they come."""

    path: Path
    lines: list[Line] = field(default_factory=list)
    _read: int = 0

    def refresh(self) -> list[Line]:
        """All whole lines so far."""
        if self.path.exists():
            with self.path.open("rb") as handle:
                handle.seek(self._read)
                whole = handle.read().rpartition(b"\n")
            self._read += len(whole[0]) + len(whole[1])
            self.lines += [_line(json.loads(text)) for text in whole[0].splitlines()]
        return self.lines


def _line(record: dict[str, Any]) -> Line:
    return Line(**record | {"lineage": tuple((name, step) for name, step in record["lineage"])})
