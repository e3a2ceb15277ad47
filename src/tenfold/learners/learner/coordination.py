"""What a learner asks the coordinator for and tells it, in threads: leases of samples ahead of time, heartbeats."""

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

from tenfold.learners.learner.replica import InnerStep, inner_steps_of
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Link, LinkMeasure, Refused, Unreachable

AHEAD_S = 60.0  # work kept in stock: how long a syncer may be away before anybody notices
RETRY_S = 0.2


class LeaseQueue:
    """Keeps about a minute of inner steps in stock."""

    def __init__(self, link: Link, life: int, batch: int, first_samples: int) -> None:
        """`first_samples`: what to ask for before the pace is known."""
        self._link, self._life, self._batch = link, life, batch
        self._stock: deque[InnerStep] = deque()
        self._wanted, self._received = first_samples, 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.refused: str | None = None
        self.finished = False
        self.is_exhausted = False
        """The last answer was that there is nothing to do now."""
        self.threads = [WatchedThread("leases", self._run)]

    def pace(self, seconds_per_step: float) -> None:
        """How fast this learner is: what it keeps in stock follows."""
        steps = max(1, round(AHEAD_S / max(seconds_per_step, 1e-4)))
        with self._changed:
            self._wanted = steps * self._batch
            self._changed.notify_all()

    def next(self, patience: float) -> InnerStep | None:
        """The next inner step; None when there is none within patience (seconds)."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._stock), patience)
            order = self._stock.popleft() if self._stock else None
            self._changed.notify_all()
        return order

    def close(self) -> None:
        """Ask for no more."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.finished:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog() < self._wanted or self._stopping.is_set(), 1.0)
                backlog, wanted = self._backlog(), self._wanted
            if backlog >= wanted or self._stopping.is_set():
                continue
            try:
                self._ask(wanted, backlog)
            except Refused as error:
                self.refused = str(error)
                return
            except Unreachable:
                self._stopping.wait(RETRY_S)

    def _backlog(self) -> int:
        return sum(order.samples for order in self._stock)

    def _ask(self, wanted: int, backlog: int) -> None:
        # Half of the stock at a time: a lease is never asked for long before it is needed.
        samples = max(self._batch, wanted // 2 // self._batch * self._batch)
        request = {"life": self._life, "samples": samples, "backlog": backlog, "received": self._received}
        answer = self._link.call("lease", request)
        self.finished = bool(answer.get("finished"))
        if "lease" in answer:
            with self._changed:
                self.is_exhausted = False
                self._received += 1
                self._stock.extend(inner_steps_of(answer["lease"], self._batch))
                self._changed.notify_all()
        elif "wait" in answer:
            with self._changed:
                self.is_exhausted = backlog == 0  # else others get their share first: ask again with half as much left
                self._changed.wait_for(
                    lambda: self._backlog() <= backlog // 2 or self._stopping.is_set(),
                    float(answer["wait"]) if self.is_exhausted else None,
                )


EVERY_S = 0.25


@dataclass
class LearnerStatus:
    """Written by the training thread, read by the pulse."""

    step: int = 0
    waits: int = 0
    """How often there was nothing to train: to wait is no hang."""
    idle: bool = False
    flushed: bool = False
    tokens_per_second: float = 0.0
    longest_gap: float = 0.0
    """Longest time between the ends of two steps of this life, in seconds; its first steps left out."""


class HeartbeatSender:
    """Sends vitals and losses until closed; says when the syncer has ended this life or the run."""

    def __init__(self, link: Link, life: int, vitals: LearnerStatus, up: LinkMeasure, down: LinkMeasure) -> None:
        """`up` and `down`: of the links that carry fragments to the syncer and from it."""
        self._link, self._life, self._vitals, self._up, self._down = link, life, vitals, up, down
        self._losses: list[tuple[int, float, int, float]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.ended: str | None = None
        self.finished = False
        self.threads = [WatchedThread("pulse", self._run)]

    def loss(self, position: int, nats: float, tokens: int, size: float) -> None:
        """An inner step's summed nats at this position of the run."""
        with self._lock:
            self._losses.append((position, nats, tokens, size))

    def close(self) -> None:
        """Say no more."""
        self._stopping.set()
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                self._beat()
            except Refused as error:
                self.ended = str(error)
            except Unreachable:
                pass
            if self.ended or self.finished:
                return

    def _beat(self) -> None:
        v = replace(self._vitals)  # before the losses: who says that all is sent must have sent them
        with self._lock:
            losses, self._losses = self._losses, []
        beat: dict[str, Any] = {
            "step": v.step,
            "waits": v.waits,
            "idle": v.idle,
            "flushed": v.flushed,
            "tokens_per_second": v.tokens_per_second,
            "longest_gap": v.longest_gap,
            "losses": losses,
            "link": {
                "up_bytes_per_second": self._up.bandwidth,
                "down_bytes_per_second": self._down.bandwidth,
                "round_trip_seconds": self._link.measure.latency,
            },
        }
        try:
            answer = self._link.call("beat", {"life": self._life, "beat": beat}, timeout=5.0, patience=5.0)
        except Unreachable:
            with self._lock:
                self._losses = losses + self._losses
            raise
        self.ended, self.finished = answer.get("ended"), bool(answer.get("finished"))
