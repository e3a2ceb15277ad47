"""One fault done to one child or its connection, and how to undo it.

Most are done from outside; `hang` and `nan` only the process itself can commit, when a signal asks it to:
`allow_faults_from_signals` is its side.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import assert_never

import psutil

from tenfold.config import AMOUNTS, SYNCER, FaultKind
from tenfold.core import Children, TenfoldError
from tenfold.learners.faults.proxy import FaultyProxy

ENVIRONMENT = "TENFOLD_CHAOS"
HANG = signal.SIGUSR1
NAN = signal.SIGUSR2
SLOW_PERIOD_S = 0.05
Undo = Callable[[], None]


@dataclass(frozen=True)
class Injection:
    """One fault to come. Due `at_seconds` after the start, or when the run has done the share `at` of its tokens."""

    kind: FaultKind
    target: str
    at_seconds: float | None = None
    at: float | None = None
    seconds: float = 5.0
    """How long it lasts, of the kinds that last (LASTING)."""
    amount: float | None = None
    """How strong: see AMOUNTS."""

    @property
    def strength(self) -> float:
        """The amount, or the kind's own. Raises KeyError for a kind that has none."""
        return AMOUNTS[self.kind] if self.amount is None else self.amount

    def is_due(self, seconds: float, share: float) -> bool:
        """Whether its time has come, `seconds` after the start with `share` of the tokens done."""
        return (self.at_seconds is not None and seconds >= self.at_seconds) or (
            self.at is not None and share >= self.at
        )


class NotInjected(TenfoldError):
    """A fault could not be injected; the message says why."""


@dataclass
class _Held:
    holders: int
    end: Undo


class Overlap:
    """Faults that overlap: a state that several hold begins with the first and ends with the last.

    Any thread may call it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, _Held] = {}

    def hold(self, key: Hashable, begin: Callable[[], Undo]) -> Undo:
        """One more holder of `key`; what it returns lets go of it, to be called once.

        For the first holder `begin` is called; what `begin` returned is called for the last to let go. What `begin`
        raises leaves no holder behind.
        """
        with self._lock:
            if key not in self._held:
                self._held[key] = _Held(0, begin())
            self._held[key].holders += 1
        return lambda: self._release(key)

    def _release(self, key: Hashable) -> None:
        with self._lock:
            held = self._held[key]
            held.holders -= 1
            if not held.holders:
                del self._held[key]
                held.end()


@dataclass(frozen=True)
class FaultContext:
    """What faults are done to: the children, and by learner the proxies that its connections to the syncer pass.

    Two proxies for each shard of the syncer, in the order of the shards.
    """

    children: Children
    proxies: Mapping[str, Sequence[FaultyProxy]]
    overlap: Overlap = field(default_factory=Overlap)


def inject(injection: Injection, context: FaultContext) -> Undo | None:
    """Commit the fault now; returns what undoes it after its seconds, or None where that is not possible.

    A fault hits the process that the target has now: a restarted child is free of it. A fault of the connection hits
    the learner's proxies, for the syncer those of all, for a shard of it those of all to this shard. Raises
    NotInjected.
    """
    match injection.kind:
        case "kill":
            _kill(injection, context)
        case "stop":
            return _stop(injection, context)
        case "slow":
            return _slow(injection, context)
        case "hang" | "nan":
            _tell(injection, context)
        case "disk-full":
            return _fill_disk(injection, context)
        case "partition" | "delay" | "loss" | "bandwidth" | "corrupt":
            return _disturb(injection, context)
        case _:
            assert_never(injection.kind)
    return None


def _pid_of(injection: Injection, context: FaultContext) -> int:
    pid = context.children.pid(injection.target)
    if pid is None:
        raise NotInjected(f"{injection.kind}: {injection.target} is not running")
    return pid


def _kill(injection: Injection, context: FaultContext) -> None:
    pid = _pid_of(injection, context)
    context.children.signal(injection.target, signal.SIGKILL, pid=pid, group=True)


def _paused(name: str, pid: int, context: FaultContext) -> Undo:
    """Let one process of a child stand still until nobody wants it to any more."""

    def send(number: signal.Signals) -> None:
        context.children.signal(name, number, pid=pid, group=True)

    def begin() -> Undo:
        send(signal.SIGSTOP)
        return lambda: send(signal.SIGCONT)

    return context.overlap.hold(("pause", pid), begin)


def _stop(injection: Injection, context: FaultContext) -> Undo:
    return _paused(injection.target, _pid_of(injection, context), context)


def _slow(injection: Injection, context: FaultContext) -> Undo:
    """Runs for a part of each period and stands still for the rest."""
    pid = _pid_of(injection, context)
    over = threading.Event()
    stands = SLOW_PERIOD_S * (1 - 1 / injection.strength)

    def alternate() -> None:
        while not over.is_set():
            began = time.monotonic()
            go_on = _paused(injection.target, pid, context)
            over.wait(stands)
            go_on()
            # Measured, not planned: where the wait above ends late, the share that it runs stays the same.
            over.wait((time.monotonic() - began) / (injection.strength - 1))

    thread = threading.Thread(target=alternate, name=f"slow-{injection.target}", daemon=True)
    thread.start()

    def undo() -> None:
        over.set()
        thread.join()

    return undo


def _tell(injection: Injection, context: FaultContext) -> None:
    """A signal that the process listens to; one that does not would die of it."""
    pid = _pid_of(injection, context)
    number = HANG if injection.kind == "hang" else NAN
    if not _listens(pid, number):
        raise NotInjected(f"{injection.kind}: {injection.target} does not listen to {number.name} (yet)")
    context.children.signal(injection.target, number, pid=pid)


def _listens(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal: the bit mask SigCgt of proc(5)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _fill_disk(injection: Injection, context: FaultContext) -> Undo:
    """No file of the process may grow: writes fail with EFBIG as on a full disk with ENOSPC, and it needs no root."""
    pid = _pid_of(injection, context)

    def begin() -> Undo:
        process = psutil.Process(pid)
        soft, hard = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
        return lambda: _limit(process, (soft, hard))

    try:
        return context.overlap.hold(("disk", pid), begin)
    except (psutil.Error, OSError) as error:
        raise NotInjected(f"{injection.kind}: {injection.target}: {error}") from error


def _limit(process: psutil.Process, limits: tuple[int, int]) -> None:
    with suppress(psutil.NoSuchProcess):  # it may have ended meanwhile
        process.rlimit(resource.RLIMIT_FSIZE, limits)


def _disturb(injection: Injection, context: FaultContext) -> Undo:
    undo = [_worsen(proxy, injection, context) for proxy in _lines_of(injection.target, context)]
    if not undo:
        raise NotInjected(
            f"{injection.kind}: {injection.target}'s line passes no proxy; it does where [chaos] plans faults of lines"
        )

    def undo_all() -> None:
        for undo_one in undo:
            undo_one()

    return undo_all


def _lines_of(target: str, context: FaultContext) -> list[FaultyProxy]:
    if not target.startswith(SYNCER):
        return list(context.proxies.get(target, ()))
    shard = target.removeprefix(SYNCER).removeprefix("-")
    of_shard = slice(2 * int(shard), 2 * int(shard) + 2) if shard else slice(None)
    return [proxy for proxies in context.proxies.values() for proxy in proxies[of_shard]]


def _worsen(proxy: FaultyProxy, injection: Injection, context: FaultContext) -> Undo:
    """Of faults of one kind on one line the newest says how strong; the last to end ends it."""
    switch = {
        "partition": proxy.partition,
        "delay": proxy.delay,
        "loss": proxy.loss,
        "bandwidth": proxy.bandwidth,
        "corrupt": proxy.corrupt,
    }[injection.kind]
    undo = context.overlap.hold((injection.kind, proxy.port), lambda: lambda: switch(0.0))
    switch(injection.seconds if injection.kind == "partition" else injection.strength)
    return undo


# The process's side


@dataclass
class InjectedFaults:
    """Set by the signal handler, read and cleared by the loop."""

    make_nan: bool = False


def allow_faults_from_signals(state: InjectedFaults) -> bool:
    """Where the environment says TENFOLD_CHAOS=1, and nowhere else, listen to the signals; whether it does.

    HANG: the main thread sleeps for ever, as in a collective that never returns; other threads go on, so that the
    process looks healthy from outside. NAN: `state.make_nan` becomes true. Call it from the main thread.
    """
    if os.environ.get(ENVIRONMENT) != "1":
        return False

    def make_nan(number: int, frame: FrameType | None) -> None:
        state.make_nan = True

    signal.signal(HANG, _hang)
    signal.signal(NAN, make_nan)
    return True


def _hang(number: int, frame: FrameType | None) -> None:
    while True:
        time.sleep(3600)
