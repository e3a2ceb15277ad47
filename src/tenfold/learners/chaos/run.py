"""Faults injected while a run goes on: each at its time, said, and undone when it is over."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from tenfold.config.chaos import LASTING
from tenfold.learners.chaos.faults import Context, NotInjected, inject
from tenfold.learners.chaos.overlap import Undo
from tenfold.learners.chaos.schedule import Injection

TICK_S = 0.05


class Say(Protocol):
    """What takes the news of a fault, such as the ledger's event."""

    def __call__(self, kind: str, message: str, **data: Any) -> None:
        """Called from the thread of the faults."""


@dataclass(frozen=True)
class _Running:
    injection: Injection
    undo: Undo
    until: float


class Chaos:
    """Injects each fault when it is due, from a thread of its own; leaving the context undoes what still lasts.

    `share`: the share of the run's tokens done so far, for faults planned by it. Of each fault `say` hears "chaos"
    when it hits, "chaos-over" when it is undone, "chaos-skipped" when it could not be injected. Leave it before the
    children are stopped: a slow fault would stop them again.
    """

    def __init__(
        self, injections: Sequence[Injection], context: Context, say: Say, share: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._waiting, self._context, self._say, self._share = list(injections), context, say, share
        self._running: list[_Running] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def add(self, injection: Injection) -> None:
        """One more fault, as an order asks for; at once when its time has passed, as with `at_seconds=0`."""
        with self._lock:
            self._waiting.append(injection)

    def _run(self) -> None:
        try:
            while not self._over.wait(TICK_S):
                self._tick()
        finally:
            self._undo(self._running)

    def _tick(self) -> None:
        now, share = time.monotonic(), self._share()
        self._undo([fault for fault in self._running if now >= fault.until])
        with self._lock:
            due = [injection for injection in self._waiting if injection.is_due(now - self._began, share)]
            self._waiting = [injection for injection in self._waiting if injection not in due]
        for injection in due:
            self._inject(injection)

    def _inject(self, injection: Injection) -> None:
        data = _data(injection)
        try:
            undo = inject(injection, self._context)
        except NotInjected as error:
            self._say("chaos-skipped", str(error), **data)
            return
        if undo is not None:
            until = time.monotonic() + injection.seconds if injection.kind in LASTING else float("inf")
            self._running.append(_Running(injection, undo, until))
        self._say("chaos", _sentence(injection), **data)

    def _undo(self, faults: Sequence[_Running]) -> None:
        self._running = [fault for fault in self._running if fault not in faults]
        for fault in faults:
            fault.undo()
        for fault in faults:  # said last: a ledger that refuses must not leave a fault in place
            self._say(
                "chaos-over", f"{fault.injection.kind} of {fault.injection.target} is over", **_data(fault.injection)
            )


def _sentence(injection: Injection) -> str:
    length = f" for {injection.seconds:g} s" if injection.kind in LASTING else ""
    return f"{injection.kind} of {injection.target}{length}"


def _data(injection: Injection) -> dict[str, Any]:
    """What the ledger keeps of a fault, beside the time."""
    lasts = {"seconds": injection.seconds} if injection.kind in LASTING else {}
    amount = {} if injection.amount is None else {"amount": injection.amount}
    return {"fault": injection.kind, "target": injection.target} | lasts | amount
