"""One fault done to one child or its connection, and how to undo it."""

import resource
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import psutil

from tenfold.core.errors import TenfoldError
from tenfold.core.processes import Children
from tenfold.learners.chaos.inside import HANG, NAN
from tenfold.learners.chaos.overlap import Overlap, Undo
from tenfold.learners.chaos.proxy import FaultyProxy
from tenfold.learners.chaos.schedule import SYNCER, Injection

SLOW_PERIOD_S = 0.05


class NotInjected(TenfoldError):
    """A fault could not be injected; the message says why."""


@dataclass(frozen=True)
class Context:
    """What faults are done to: the children, and by learner the proxies that its connections to the syncer pass.

    Two proxies for each shard of the syncer, in the order of the shards.
    """

    children: Children
    proxies: Mapping[str, Sequence[FaultyProxy]]
    overlap: Overlap = field(default_factory=Overlap)


def inject(injection: Injection, context: Context) -> Undo | None:
    """Commit the fault now; returns what undoes it after its seconds, or None where that is not possible.

    A fault hits the life that the target has now: a restarted child is free of it. A fault of the connection hits the
    learner's proxies, for the syncer those of all, for a shard of it those of all to this shard. Raises NotInjected.
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


def _life(injection: Injection, context: Context) -> int:
    pid = context.children.pid(injection.target)
    if pid is None:
        raise NotInjected(f"{injection.kind}: {injection.target} is not running")
    return pid


def _kill(injection: Injection, context: Context) -> None:
    pid = _life(injection, context)
    context.children.signal(injection.target, signal.SIGKILL, pid=pid, group=True)


def _paused(name: str, pid: int, context: Context) -> Undo:
    """Let one life of a child stand still until nobody wants it to any more."""

    def send(number: signal.Signals) -> None:
        context.children.signal(name, number, pid=pid, group=True)

    def begin() -> Undo:
        send(signal.SIGSTOP)
        return lambda: send(signal.SIGCONT)

    return context.overlap.hold(("pause", pid), begin)


def _stop(injection: Injection, context: Context) -> Undo:
    return _paused(injection.target, _life(injection, context), context)


def _slow(injection: Injection, context: Context) -> Undo:
    """Runs for a part of each period and stands still for the rest."""
    pid = _life(injection, context)
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


def _tell(injection: Injection, context: Context) -> None:
    """A signal that the process listens to; one that does not would die of it."""
    pid = _life(injection, context)
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


def _fill_disk(injection: Injection, context: Context) -> Undo:
    """No file of the process may grow: writes fail with EFBIG as on a full disk with ENOSPC, and it needs no root."""
    pid = _life(injection, context)

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


def _disturb(injection: Injection, context: Context) -> Undo:
    undo = [_worsen(proxy, injection, context) for proxy in _lines_of(injection.target, context)]
    if not undo:
        raise NotInjected(
            f"{injection.kind}: {injection.target}'s line passes no proxy; it does where [chaos] plans faults of lines"
        )

    def undo_all() -> None:
        for undo_one in undo:
            undo_one()

    return undo_all


def _lines_of(target: str, context: Context) -> list[FaultyProxy]:
    if not target.startswith(SYNCER):
        return list(context.proxies.get(target, ()))
    shard = target.removeprefix(SYNCER).removeprefix("-")
    of_shard = slice(2 * int(shard), 2 * int(shard) + 2) if shard else slice(None)
    return [proxy for proxies in context.proxies.values() for proxy in proxies[of_shard]]


def _worsen(proxy: FaultyProxy, injection: Injection, context: Context) -> Undo:
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
