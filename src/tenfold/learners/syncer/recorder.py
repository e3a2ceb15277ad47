"""The syncer's way into the ledger: many threads say things, one writes them, whatever the disk says."""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tenfold.core import TenfoldError
from tenfold.ledger import BITS_PER_BYTE, LOSS, EventPayload, Ledger, RequestRefused

FLUSH_S = 1.0
REMEMBERED_STEPS = 4096  # a learner that was cut off for longer starts these figures anew
WAITING_EVENTS = 4096  # kept while the disk refuses; the oldest are let go then
WARN_AGAIN_S = 30.0
LAST_TRIES = 5
REFUSALS_AT_ONCE, REFUSALS_AGAIN_S = 5, 10.0  # a stranger may knock thousands of times a second


@dataclass
class _Losses:
    """Sums of one global step over learners."""

    nats: float = 0.0
    tokens: int = 0
    bytes: float = 0.0


class Refusals:
    """Which refusals get a line of their own: the first few, then one every REFUSALS_AGAIN_S that says how many."""

    def __init__(self) -> None:
        self._left, self._unsaid, self._said_at = REFUSALS_AT_ONCE, 0, -math.inf
        self._lock = threading.Lock()

    def heard(self, now: float) -> int:
        """One more at `now` (s): how many a line is due for, 0 for none."""
        with self._lock:
            if now - self._said_at >= 6 * REFUSALS_AGAIN_S:
                self._left = REFUSALS_AT_ONCE
            self._unsaid += 1
            if self._left == 0 and now - self._said_at < REFUSALS_AGAIN_S:
                return 0
            self._left, self._said_at = max(0, self._left - 1), now
            said, self._unsaid = self._unsaid, 0
            return said


class Recorder:
    """Writes events at once and metrics every second. Losses are joined by global step, weighted by tokens.

    What the ledger does not take now is kept and written later; what it can never take is said and left out.
    """

    def __init__(self, open_ledger: Callable[[], tuple[Ledger, int]], echo: Callable[[str], None]) -> None:
        """`open_ledger` is called in the writing thread: a ledger belongs to the thread that opened it."""
        self._open, self._echo = open_ledger, echo
        self._ledger: tuple[Ledger, int] | None = None
        self._said: queue.Queue[tuple[EventPayload, str] | None] = queue.Queue()
        self._events: deque[tuple[EventPayload, str]] = deque(maxlen=WAITING_EVENTS)
        self._metrics: dict[int, dict[str, float]] = {}
        self._losses: dict[int, _Losses] = {}
        self._refusals, self._warned_at = Refusals(), -math.inf
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def say(self, what: EventPayload, message: str) -> None:
        """Note an event: `what` for programs, `message` for people."""
        self._echo(f"{what.kind}: {message}")
        self._said.put((what, message))

    def rejected(self, reason: str) -> None:
        """Note that something was refused on a port; many at a time share a row."""
        times = self._refusals.heard(time.monotonic())
        if times:
            more = f" (and {times - 1} more since the line before)" if times > 1 else ""
            self.say(RequestRefused(times if times > 1 else None), reason[:300] + more)

    def loss(self, step: int, nats: float, tokens: int, size: float) -> None:
        """A learner's inner step at this global step: summed nats, tokens, bytes of text."""
        with self._lock:
            sums = self._losses.setdefault(step, _Losses())
            while len(self._losses) > REMEMBERED_STEPS:
                del self._losses[min(self._losses)]
            sums.nats, sums.tokens, sums.bytes = sums.nats + nats, sums.tokens + tokens, sums.bytes + size
            self._metrics.setdefault(step, {}).update(
                {
                    LOSS: sums.nats / sums.tokens,
                    BITS_PER_BYTE: sums.nats / max(sums.bytes, 1.0) / math.log(2),
                }
            )

    def metric(self, step: int, name: str, value: float) -> None:
        """Any other figure at a global step."""
        with self._lock:
            self._metrics.setdefault(step, {})[name] = value

    def recent_loss(self, steps: int) -> float | None:
        """Mean loss over the last global steps that are known."""
        with self._lock:
            last = [self._losses[step] for step in sorted(self._losses)[-steps:]]
        tokens = sum(each.tokens for each in last)
        return sum(each.nats for each in last) / tokens if tokens else None

    def close(self) -> None:
        """Write what is left."""
        self._said.put(None)
        self._thread.join()

    def _write(self) -> None:
        while self._heard():
            self._flush()
        for _ in range(LAST_TRIES):
            if self._flush():
                break
            time.sleep(FLUSH_S)
        else:
            self._echo(f"warning: {len(self._events)} events and figures of {len(self._metrics)} steps are not written")
        if self._ledger:
            self._ledger[0].close()

    def _heard(self) -> bool:
        """Whether more may come, once something was said or a second is over."""
        try:
            said = self._said.get(timeout=FLUSH_S)
        except queue.Empty:
            return True
        if said is not None:
            self._events.append(said)
        return said is not None

    def _flush(self) -> bool:
        """Write what waits; whether all of it is written, or never can be."""
        with self._lock:
            metrics, self._metrics = self._metrics, {}
        try:
            self._ledger = self._ledger or self._open()
            while self._events:
                self._written(self._events[0])
                self._events.popleft()
            self._log(metrics)
        except TenfoldError as error:  # a full disk: the run goes on, and all of it comes later
            self._warn(f"{error}; tried again")
            with self._lock:
                self._metrics = metrics | self._metrics
            return False
        return True

    def _written(self, event: tuple[EventPayload, str]) -> None:
        assert self._ledger is not None
        try:
            self._ledger[0].event(*event, run_id=self._ledger[1])
        except TenfoldError:
            raise
        except Exception as error:  # whatever it is, the others must be written
            self._warn(f"an event is left out ({type(error).__name__}: {error})")

    def _log(self, metrics: dict[int, dict[str, float]]) -> None:
        """All at once, else step by step, so that one that cannot be written costs no other."""
        assert self._ledger is not None
        ledger, run_id = self._ledger
        if not metrics:
            return
        try:
            ledger.log(run_id, metrics)
        except TenfoldError:
            raise
        except Exception:
            for step, figures in metrics.items():
                self._log_step(step, figures)

    def _log_step(self, step: int, figures: dict[str, float]) -> None:
        assert self._ledger is not None
        try:
            self._ledger[0].log(self._ledger[1], {step: figures})
        except TenfoldError:
            raise
        except Exception as error:
            self._warn(f"figures of step {str(step)[:40]} are left out ({type(error).__name__}: {error})")

    def _warn(self, why: str) -> None:
        if time.monotonic() - self._warned_at >= WARN_AGAIN_S:
            self._warned_at = time.monotonic()
            self._echo(f"warning: {why}")
