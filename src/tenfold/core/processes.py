"""Child processes: start, watch, signal, start again, stop. They die with this process, however it ends.

`Children` is the supervisor's side, `watch_parent` the child's, `CrashLoop` decides when a child that died is started
again and when it is given up.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tenfold.core.errors import TenfoldError
from tenfold.core.fork_server import ForkedProcess, ForkServer

POLL_S = 0.02
TAIL_BYTES = 4096
FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Child:
    """What to run. `environment` comes on top of this process's own.

    What it prints is appended to `log`; without one it goes where this process's own lines go.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How one process of a child ended: its return code, negative for the number of a signal, as subprocess says it."""

    name: str
    pid: int
    code: int
    seconds: float
    """How long it ran."""
    last_line: str
    """The last line in its log; empty when it wrote none."""
    state: str = ""
    """What a scheduler says of its end, where that says more than the code: `NODE_FAIL`."""
    waited: float = 0.0
    """Seconds between the request to start it and its end in which it did not run: in a queue."""

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
class _Running:
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

    def __init__(self, fork_server: ForkServer | None = None) -> None:
        """With a fork server, commands `python -m tenfold …` are forked off it."""
        self._fork_server = fork_server
        self._lock = threading.RLock()  # no process is reaped while another thread signals it
        self._running: dict[str, _Running] = {}
        self._ended: list[Ended] = []

    @property
    def running(self) -> list[str]:
        """Names of the children that run (or stand still)."""
        with self._lock:
            self._reap()
            return list(self._running)

    def start(self, child: Child) -> int:
        """Start it; its process id. Raises TenfoldError when one of that name runs or the command cannot be run."""
        with self._lock:
            self._reap()
            if child.name in self._running:
                raise TenfoldError(f"{child.name}: already running as process {self._running[child.name].process.pid}")
            self._running[child.name] = _begin(child, self._fork_server)
            return self._running[child.name].process.pid

    def pid(self, name: str) -> int | None:
        """Process id of a running child, None when it does not run."""
        with self._lock:
            self._reap()
            one = self._running.get(name)
            return one.process.pid if one else None

    def poll(self) -> list[Ended]:
        """Every child that ended since the last call."""
        with self._lock:
            self._reap()
            ended, self._ended = self._ended, []
            return ended

    def signal(self, name: str, number: signal.Signals, *, pid: int | None = None, group: bool = False) -> bool:
        """Send a signal to a child, or to its whole process group; whether it was there to get it.

        With `pid`: only to that process of it.
        """
        with self._lock:
            self._reap()
            one = self._running.get(name)
            if one is None or pid not in (None, one.process.pid):
                return False
            (os.killpg if group else os.kill)(one.process.pid, number)
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
        """As `stop_all`, for the children of these names alone."""
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
        for name, one in list(self._running.items()):
            if _has_ended(one.process):
                del self._running[name]
                self._ended.append(_finish(one))


def _begin(child: Child, fork_server: ForkServer | None) -> _Running:
    try:
        if child.log is None:
            return _Running(child, _popen(child, None), time.monotonic(), 0)
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with child.log.open("ab") as log:
            start, forked = log.tell(), None
            if fork_server is not None and child.command[:3] == (sys.executable, "-m", "tenfold"):
                forked = fork_server.fork(child.command[3:], child.environment, log)
            return _Running(child, forked or _popen(child, log), time.monotonic(), start)
    except OSError as error:
        raise TenfoldError(f"{child.name}: cannot be started ({error.strerror}: {error.filename})") from error


def _popen(child: Child, log: IO[bytes] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        child.command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=None if log is None else subprocess.STDOUT,
        env={**os.environ, **child.environment},
        start_new_session=True,
    )


def _has_ended(process: subprocess.Popen[bytes] | ForkedProcess) -> bool:
    """Whether it has; a process found so stays a zombie, so that its group's number is not given away."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _finish(running: _Running) -> Ended:
    process, child = running.process, running.child
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # what it had started and left behind
            os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if process.stdin:
        process.stdin.close()
    line = last_line(child.log, running.log_start) if child.log else ""
    return Ended(child.name, process.pid, code, time.monotonic() - running.began, line)


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


# When to start again


@dataclass
class _Deaths:
    """Deaths of one child: their times (s) within the window, and the delay (s) before the last restart."""

    times: list[float] = field(default_factory=list)
    delay: float = 0.0
    waited: float = 0.0
    """Seconds that do not count: those that all its processes stood in a queue."""


class CrashLoop:
    """Delays before restarts: 0.1 s, doubling up to 5 s while a child dies quickly, 0.1 s again after a long run.

    `limit` deaths within `within` seconds: the child is given up. A run is long when it lasted `within / limit`
    seconds: at that pace a child is never given up. Pure: the clock is passed in.
    """

    def __init__(self, limit: int, within: float) -> None:
        self.limit, self.within = limit, within
        self._deaths: dict[str, _Deaths] = {}

    def note(self, name: str, now: float, waited: float = 0.0) -> float | None:
        """A child died at `now` (s, any clock that does not go back): seconds to wait, or None when it is given up.

        `waited` seconds of that, since it was started, it stood in a queue: they make no death a rare one.
        """
        deaths = self._deaths.setdefault(name, _Deaths())
        deaths.waited += waited
        now -= deaths.waited
        was_long = bool(deaths.times) and now - deaths.times[-1] - deaths.delay >= self.within / self.limit
        deaths.times = [death for death in deaths.times if now - death < self.within] + [now]
        if len(deaths.times) >= self.limit:
            return None
        quick_before = len(deaths.times) > 1 and not was_long
        deaths.delay = min(LONGEST_DELAY_S, 2 * deaths.delay) if quick_before else FIRST_DELAY_S
        return deaths.delay

    def report(self, last: Ended) -> str:
        """One line on a child that was given up: name, deaths, how it ended last, its last log line."""
        deaths = self._deaths.get(last.name, _Deaths())
        words = f"its last line: {last.last_line}" if last.last_line else "it wrote nothing"
        return (
            f"{last.name}: given up after {len(deaths.times)} deaths within {self.within:g} s; "
            f"the last: {last.how} after {last.seconds:.1f} s; {words}"
        )


# The child's side


def watch_parent(grace: float = 60.0) -> None:
    """End as on SIGTERM when the supervisor is gone; `grace` seconds later, if still there, as on SIGKILL.

    The supervisor holds the other end of this process's standard input and never writes to it. Call it first of all,
    from the main thread.
    """
    _wake_with_parent()
    threading.Thread(target=_stop_with_parent, args=(grace,), name="watch-parent", daemon=True).start()


def _wake_with_parent() -> None:
    """A process that stands still (SIGSTOP) when its supervisor dies would never notice: the kernel wakes it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


def _stop_with_parent(grace: float) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    leads = os.getpgrp() == os.getpid()
    if leads:
        os.killpg(0, signal.SIGCONT)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if leads:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
