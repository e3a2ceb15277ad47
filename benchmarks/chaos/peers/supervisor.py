"""Run a peer for a while: start its processes, restart what dies, commit the faults, leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from faults import Fault
from lines import Line, Tail, now
from training import die_with_parent

from tenfold.core.errors import TenfoldError

POLL_S = 0.02
READY_S = 120.0
HANG_LIMIT_S = 30.0
GRACE_S = 10.0


@dataclass(frozen=True)
class Process:
    """One process to be kept running."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Injection:
    """A fault committed: when, on which process, until when that was unable to work by our doing, what ended it."""

    fault: Fault
    at: float
    pid: int
    until: float | None = None
    ended_by: str = ""


@dataclass(frozen=True)
class Phase:
    """What was seen: from `began`, when all had made their first step, to `ended`; lines by worker, in order."""

    began: float
    ended: float
    workers: list[list[Line]]
    injections: list[Injection]
    exits: dict[str, int]
    """Times each kept process ended, for whatever reason."""


def free_port() -> int:
    """A port that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_phase(
    processes: Sequence[Process], folder: Path, replicas: int, faults: Sequence[Fault], seconds: float
) -> Phase:
    """Train for `seconds` after all replicas made their first step. Raises TenfoldError when they never do."""
    tails = [Tail(folder / f"worker-{number}.jsonl") for number in range(replicas)]
    with _kept(processes, folder) as kept:
        began = _await_first_steps(kept, tails, folder)
        injections = _disturb(kept, tails, faults, began, began + seconds)
        ended = now()
        workers = [list(tail.refresh()) for tail in tails]
        exits = dict(kept.exits)
    return Phase(began, ended, workers, injections, exits)


class Kept:
    """Processes that are started again as soon as they end."""

    def __init__(self, processes: Sequence[Process], folder: Path) -> None:
        self._folder = folder
        self.exits = {process.name: 0 for process in processes}
        self._running = [(process, self._start(process)) for process in processes]

    def _start(self, process: Process) -> subprocess.Popen[bytes]:
        with (self._folder / f"{process.name}.log").open("ab") as log:
            return subprocess.Popen(
                process.command,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **process.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  (this process has one thread)
            )

    def restart_ended(self) -> None:
        """Start again what has ended."""
        for place, (process, running) in enumerate(self._running):
            if running.poll() is not None:
                self.exits[process.name] += 1
                self._running[place] = (process, self._start(process))

    def stop(self) -> None:
        """End all, children of children too, and wait for them."""
        roots = [psutil.Process(running.pid) for _, running in self._running if running.poll() is None]
        for root in roots:
            root.suspend()  # so that none starts another child while we look
        family = roots + [child for root in roots for child in root.children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, timeout=GRACE_S)
        for _, running in self._running:
            running.wait()


@contextmanager
def _kept(processes: Sequence[Process], folder: Path) -> Iterator[Kept]:
    folder.mkdir(parents=True)
    kept = Kept(processes, folder)
    try:
        yield kept
    finally:
        kept.stop()


def _await_first_steps(kept: Kept, tails: Sequence[Tail], folder: Path) -> float:
    deadline = now() + READY_S
    while now() < deadline:
        kept.restart_ended()
        if all(any(line.tokens for line in tail.refresh()) for tail in tails):
            return now()
        time.sleep(POLL_S)
    raise TenfoldError(f"{folder}: not all replicas made a step in {READY_S:g} s; see the logs there")


def _disturb(kept: Kept, tails: Sequence[Tail], faults: Sequence[Fault], began: float, until: float) -> list[Injection]:
    due, done = list(faults), list[Injection]()
    try:
        while now() < until:
            kept.restart_ended()
            for fault in [fault for fault in due if began + fault.at <= now()]:
                pid = _pid_of(tails[fault.target])
                if pid is not None:  # it is being restarted: the fault waits for it
                    due.remove(fault)
                    done.append(_commit(fault, pid))
            for injection in done:
                _end_if_due(injection)
            time.sleep(POLL_S)
    finally:
        for injection in done:
            if injection.until is None:
                _signal(injection.pid, signal.SIGCONT)
    if due:
        print(f"{len(due)} faults were not committed: their targets did not run", file=sys.stderr)
    return done


def _pid_of(tail: Tail) -> int | None:
    """The worker's process, if it runs."""
    pid = tail.refresh()[-1].pid
    return pid if _runs(pid) else None


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _commit(fault: Fault, pid: int) -> Injection:
    injection = Injection(fault, now(), pid)
    match fault.kind:
        case "kill":
            _signal(pid, signal.SIGKILL)
            injection.until, injection.ended_by = injection.at, "restarted at once"
        case "stop":
            _signal(pid, signal.SIGSTOP)
        case _:
            _signal(pid, signal.SIGUSR1)
    return injection


def _end_if_due(injection: Injection) -> None:
    """Wake what is stopped long enough, kill what hangs too long, see what ended before."""
    if injection.until is not None:
        return
    hangs = injection.fault.kind == "hang"
    if not _runs(injection.pid):
        injection.ended_by = "the peer's own machinery"
    elif now() - injection.at < (HANG_LIMIT_S if hangs else injection.fault.seconds):
        return
    elif hangs:
        _signal(injection.pid, signal.SIGKILL)
        injection.ended_by = f"the supervisor, after {HANG_LIMIT_S:g} s"
    else:
        _signal(injection.pid, signal.SIGCONT)
        injection.ended_by = "SIGCONT"
    injection.until = now()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
