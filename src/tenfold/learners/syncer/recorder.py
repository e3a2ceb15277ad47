"""The syncer's way into the ledger: many threads say things, one writes them."""

import math
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tenfold.core import TenfoldError
from tenfold.ledger import BITS_PER_BYTE, LOSS, EventPayload, Ledger, RequestRefused

FLUSH_S = 1.0
REMEMBERED_STEPS = 4096  # a learner that was cut off for longer starts these figures anew


@dataclass
class _Losses:
    """Sums of one global step over learners."""

    nats: float = 0.0
    tokens: int = 0
    bytes: float = 0.0


class Recorder:
    """Writes events at once and metrics every second. Losses are joined by global step, weighted by tokens."""

    def __init__(self, open_ledger: Callable[[], tuple[Ledger, int]], echo: Callable[[str], None]) -> None:
        """`open_ledger` is called in the writing thread: a ledger belongs to the thread that opened it."""
        self._open, self._echo = open_ledger, echo
        self._events: queue.Queue[tuple[EventPayload, str] | None] = queue.Queue()
        self._metrics: dict[int, dict[str, float]] = {}
        self._losses: dict[int, _Losses] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._write, name="recorder", daemon=True)
        self._thread.start()

    def say(self, what: EventPayload, message: str) -> None:
        """Note an event: `what` for programs, `message` for people."""
        self._echo(f"{what.kind}: {message}")
        self._events.put((what, message))

    def rejected(self, reason: str) -> None:
        """Note that something was refused on a port."""
        self.say(RequestRefused(), reason[:300])

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
        self._events.put(None)
        self._thread.join()

    def _write(self) -> None:
        ledger, run_id = self._open()
        going_on = True
        while going_on:
            try:
                event = self._events.get(timeout=FLUSH_S)
                going_on = event is not None
                if event is not None:
                    ledger.event(*event, run_id=run_id)
                    continue
            except queue.Empty:
                pass
            except TenfoldError as error:
                self._echo(f"warning: {error}")
            self._flush(ledger, run_id)
        ledger.close()

    def _flush(self, ledger: Ledger, run_id: int) -> None:
        with self._lock:
            metrics, self._metrics = self._metrics, {}
        try:
            if metrics:
                ledger.log(run_id, metrics)
        except TenfoldError as error:  # a full disk: the run goes on, and the figures come later
            self._echo(f"warning: {error}")
            with self._lock:
                self._metrics = metrics | self._metrics
