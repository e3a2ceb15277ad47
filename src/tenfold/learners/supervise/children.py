"""Child processes: start, watch, signal, restart, stop. They die with this process, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenfold.core.errors import TenfoldError
from tenfold.learners.supervise.zygote import ForkedProcess, Zygote

POLL_S = 0.02
TAIL_BYTES = 4096


@dataclass(frozen=True)
class Child:
    """What to run. `environment` comes on top of this process's own; what it prints is appended to `log`."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path


@dataclass(frozen=True)
class Ended:
    """How one life of a child ended: its return code, negative for the number of a signal, as subprocess says it."""

    name: str
    pid: int
    code: int
    seconds: float
    """How long it lived."""
    last_line: str
    """The last line it wrote; empty when it wrote none."""
    state: str = ""
    """What a scheduler says of its end, where that says more than the code: `NODE_FAIL`."""
    waited: float = 0.0
    """Seconds between the order to start it and its end in which it did not live: in a queue."""

    @property
    def how(self) -> str:
        """`SIGKILL`, `status 3`, or `NODE_FAIL`."""
        if self.state:
            return self.state
        if self.code >= 0:
            return f"status {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:  # a real-time signal
            return f"signal {-self.code}"


@dataclass(frozen=True)
class _Life:
    """One running process, when it began (s) and where in the log its lines start (bytes)."""

    child: Child
    process: subprocess.Popen[bytes] | ForkedProcess
    began: float
    log_start: int


class Children:
    """The children of this process. Any thread may call it.

    Each leads a session and process group of its own: Ctrl-C reaches the supervisor alone, and what a child started
    dies with it. Each gets a pipe as its input that only this process holds; see `watch_parent`.
    """

    def __init__(self, zygote: Zygote | None = None) -> None:
        """With a zygote, commands `python -m tenfold …` are forked off it."""
        self._zygote = zygote
        self._lock = threading.RLock()  # no process is reaped while another thread signals it
        self._lives: dict[str, _Life] = {}
        self._ended: list[Ended] = []

    @property
    def running(self) -> list[str]:
        """Names of the children that run (or stand still)."""
        with self._lock:
            self._reap()
            return list(self._lives)

    def start(self, child: Child) -> int:
        """Start it; its process id. Raises TenfoldError when one of that name runs or the command cannot be run."""
        with self._lock:
            self._reap()
            if child.name in self._lives:
                raise TenfoldError(f"{child.name}: already running as process {self._lives[child.name].process.pid}")
            self._lives[child.name] = _begin(child, self._zygote)
            return self._lives[child.name].process.pid

    def pid(self, name: str) -> int | None:
        """Process id of a running child, None when it does not run."""
        with self._lock:
            self._reap()
            life = self._lives.get(name)
            return life.process.pid if life else None

    def poll(self) -> list[Ended]:
        """Every child that ended since the last call."""
        with self._lock:
            self._reap()
            ended, self._ended = self._ended, []
            return ended

    def signal(self, name: str, number: signal.Signals, *, pid: int | None = None, group: bool = False) -> bool:
        """Send a signal to a child, or to its whole process group; whether it was there to get it.

        With `pid`: only to that life of it.
        """
        with self._lock:
            self._reap()
            life = self._lives.get(name)
            if life is None or pid not in (None, life.process.pid):
                return False
            (os.killpg if group else os.kill)(life.process.pid, number)
            return True

    def kill(self, name: str) -> bool:
        """SIGKILL to the whole process group, also of a stopped one; whether it ran. `poll` tells how it ended."""
        return self.signal(name, signal.SIGKILL, group=True)

    def ask_to_stop(self, name: str) -> bool:
        """SIGTERM, which a stopped one hears too; whether it ran."""
        with self._lock:
            self.signal(name, signal.SIGCONT, group=True)
            return self.signal(name, signal.SIGTERM)

    def stop_all(self, grace: float) -> None:
        """SIGTERM to each, then, `grace` seconds later, SIGKILL to what is left. `poll` tells how they ended."""
        self.stop(self.running, grace)

    def stop(self, names: Collection[str], grace: float) -> None:
        """The same for some of them."""
        for name in names:
            self.ask_to_stop(name)
        deadline = time.monotonic() + grace
        while not set(self.running).isdisjoint(names) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for name in names:
            self.kill(name)
        while not set(self.running).isdisjoint(names):
            time.sleep(POLL_S)

    def _reap(self) -> None:
        for name, life in list(self._lives.items()):
            if _has_ended(life.process):
                del self._lives[name]
                self._ended.append(_finish(life))


def _begin(child: Child, zygote: Zygote | None) -> _Life:
    environment = {**os.environ, **child.environment}
    try:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("ab") as log:
            start = log.tell()
            if zygote is not None and child.command[:3] == (sys.executable, "-m", "tenfold"):
                forked = zygote.fork(child.command[3:], child.environment, log)
                if forked is not None:
                    return _Life(child, forked, time.monotonic(), start)
            process = subprocess.Popen(
                child.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            return _Life(child, process, time.monotonic(), start)
    except OSError as error:
        raise TenfoldError(f"{child.name}: cannot be started ({error.strerror}: {error.filename})") from error


def _has_ended(process: subprocess.Popen[bytes] | ForkedProcess) -> bool:
    """Whether it has; a process found so stays a zombie, so that its group's number is not given away."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _finish(life: _Life) -> Ended:
    process, child = life.process, life.child
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # what it had started and left behind
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if process.stdin:
        process.stdin.close()
    line = last_line(child.log, life.log_start)
    return Ended(child.name, process.pid, code, time.monotonic() - life.began, line)


def last_line(log: Path, start: int) -> str:
    """The last line of a log that says something, after `start` bytes; empty when there is none."""
    try:
        with log.open("rb") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(start, end - TAIL_BYTES))
            lines = handle.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
