"""Child processes whose progress can be counted, for tests of faults."""

import sys
import time
from pathlib import Path

from tenfold.core.processes import Child, Children

BUSY = """
with open("count", "ab", buffering=0) as handle:
    while True:
        sum(range(20_000))
        handle.write(b".")
"""


def start(children: Children, folder: Path, code: str, name: str = "learner-0", **environment: str) -> None:
    program = f"import os; os.chdir({str(folder)!r})\n{code}"
    children.start(Child(name, (sys.executable, "-c", program), environment, folder / f"{name}.log"))


class Progress:
    """How often a child has gone round its loop, by the size of a file that grows each time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def rate(self, seconds: float) -> float:
        before, began = self(), time.monotonic()
        time.sleep(seconds)
        return (self() - before) / (time.monotonic() - began)
