"""A run of loops that are not tenfold's, small enough for a test."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tenfold.learners.record.log import RunLog
from tests.learners.process import LoggedProcess
from tests.waiting import until

HERE = Path(__file__).parent
LISTENS = re.compile(r"syncer listens on (\S+);")


@dataclass
class OwnRun:
    """A syncer in a process of its own, and the loops that train with it."""

    folder: Path
    total: int
    words: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    """What the loops import beyond tenfold."""
    processes: dict[str, LoggedProcess] = field(default_factory=dict)

    def serve(self, port: int = 0) -> str:
        """Start the syncer; where it listens."""
        command = ["syncer", str(self.folder), "--total", str(self.total), *self.words]
        self._start("syncer", [*command, "--port", str(port)])
        until(lambda: LISTENS.search(self.said("syncer")) is not None)
        found = LISTENS.findall(self.said("syncer"))
        return str(found[-1])

    def train(self, name: str, program: str, *words: str, called: str = "") -> None:
        """Start a loop; it joins under this name, or as it is `called`."""
        self._start(name, [str(HERE / program), *words, called or name])

    def _start(self, name: str, words: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        token = self.folder / "learners" / "token"
        more = {"TENFOLD_TOKEN": token.read_text().strip()} if token.exists() else {}
        log = self.folder / f"{name}.log"
        self.processes[name] = LoggedProcess(words, environment=more, log=log, modules=self.modules)

    def said(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text()

    def steps(self, name: str) -> list[tuple[int, int, float]]:
        """(first sample, last sample, loss) of each step of a loop."""
        found = re.findall(r"^trained (\d+) (\d+) (\S+)$", self.said(name), re.MULTILINE)
        return [(int(first), int(last), float(loss)) for first, last, loss in found]

    def ended(self, name: str) -> int:
        """The status of a process that ends by itself."""
        return self.processes[name].wait()

    def committed(self) -> list[int]:
        """Every sample that counts, as often as it does."""
        with RunLog.opened(self.folder / "learners") as log:
            return sorted(sample for _, first, _, done in log.committed() for sample in range(first, first + done))


@contextmanager
def own_run(folder: Path, total: int, *words: str, modules: tuple[str, ...] = ()) -> Iterator[OwnRun]:
    """All its processes are gone at the end."""
    run = OwnRun(folder, total, words, modules)
    try:
        yield run
    finally:
        for process in run.processes.values():
            process.close()
