"""When which fault hits whom, and the thread that injects each at its time and undoes it when it is over."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from tenfold.config import LASTING, LEARNERS_ONLY, SYNCER, Chaos, Fault, FaultKind
from tenfold.learners.faults.inject import FaultContext, Injection, NotInjected, Undo, inject
from tenfold.ledger import FaultInjected, FaultOver, FaultSkipped

ANY = "any"
TICK_S = 0.05


def planned(chaos: Chaos, targets: Sequence[str], horizon_seconds: float, seed: int) -> list[Injection]:
    """Every fault of a run of `horizon_seconds`: those planned in [chaos], then the random ones in order of time.

    `targets`: names of the processes. The random ones are a Poisson process of `chaos.per_hour`: the waits between
    them are exponential, kind and target uniform. The same `chaos`, `targets` and `seed` (0 or more, the run's own)
    give the same list; a longer horizon only adds to its end.
    """
    drawing = np.random.default_rng([chaos.seed, seed, 0])
    faults = [_from_fault(fault, targets, drawing) for fault in chaos.faults]
    return faults + _random(chaos, targets, horizon_seconds, np.random.default_rng([chaos.seed, seed, 1]))


def _from_fault(fault: Fault, targets: Sequence[str], rng: np.random.Generator) -> Injection:
    target = _draw(_victims(fault.kind, targets), rng) if fault.target == ANY else fault.target
    return Injection(fault.kind, target or ANY, fault.at_seconds, fault.at, fault.seconds, fault.amount)


def _random(chaos: Chaos, targets: Sequence[str], horizon: float, rng: np.random.Generator) -> list[Injection]:
    injections: list[Injection] = []
    if not chaos.per_hour or not targets:
        return injections
    now = rng.exponential(3600 / chaos.per_hour)
    while now < horizon:
        kind = chaos.kinds[int(rng.integers(len(chaos.kinds)))]
        target = _draw(_victims(kind, targets), rng)
        if target is not None:
            injections.append(Injection(kind, target, at_seconds=now, seconds=chaos.seconds))
        now += rng.exponential(3600 / chaos.per_hour)
    return injections


def _victims(kind: FaultKind, targets: Sequence[str]) -> list[str]:
    return [target for target in targets if not target.startswith(SYNCER) or kind not in LEARNERS_ONLY]


def _draw(names: Sequence[str], rng: np.random.Generator) -> str | None:
    return names[int(rng.integers(len(names)))] if names else None


# Injecting while a run goes on


class FaultNews(Protocol):
    """What takes the news of a fault, such as the ledger's events."""

    def __call__(self, what: FaultInjected | FaultOver | FaultSkipped, message: str) -> None:
        """Called from the thread of the faults."""


@dataclass(frozen=True)
class _Lasting:
    injection: Injection
    undo: Undo
    until: float


class FaultInjector:
    """Injects each fault when it is due, from a thread of its own; leaving the context undoes what still lasts.

    `share`: the share of the run's tokens done so far, for faults planned by it. `say` hears when a fault hits,
    when it is undone, and when it could not be injected. Leave it before the children are stopped: a slow fault would
    stop them again.
    """

    def __init__(
        self,
        injections: Sequence[Injection],
        context: FaultContext,
        say: FaultNews,
        share: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._waiting, self._context, self._say, self._share = list(injections), context, say, share
        self._running: list[_Lasting] = []
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
        """One more fault, as a command asks for; at once when its time has passed, as with `at_seconds=0`."""
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
            self._say(FaultSkipped(**data), str(error))
            return
        if undo is not None:
            until = time.monotonic() + injection.seconds if injection.kind in LASTING else float("inf")
            self._running.append(_Lasting(injection, undo, until))
        self._say(FaultInjected(**data), _sentence(injection))

    def _undo(self, faults: Sequence[_Lasting]) -> None:
        self._running = [fault for fault in self._running if fault not in faults]
        for fault in faults:
            fault.undo()
        for fault in faults:  # said last: a ledger that refuses must not leave a fault in place
            what = fault.injection
            self._say(FaultOver(**_data(what)), f"{what.kind} of {what.target} is over")


def _sentence(injection: Injection) -> str:
    length = f" for {injection.seconds:g} s" if injection.kind in LASTING else ""
    return f"{injection.kind} of {injection.target}{length}"


def _data(injection: Injection) -> dict[str, Any]:
    """What the ledger keeps of a fault, beside the time."""
    lasts = {"seconds": injection.seconds} if injection.kind in LASTING else {}
    amount = {} if injection.amount is None else {"amount": injection.amount}
    return {"fault": injection.kind, "target": injection.target} | lasts | amount
