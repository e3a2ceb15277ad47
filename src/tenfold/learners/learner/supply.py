"""Leases of samples, asked for ahead of time, so that a learner goes on while the syncer is away."""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from tenfold.learners.watched import Watched
from tenfold.learners.wire import Link, Refused, Unreachable

AHEAD_S = 60.0  # work kept in stock: how long a syncer may be away before anybody notices
RETRY_S = 0.2


@dataclass(frozen=True)
class Order:
    """One inner step: which samples, and where the learning-rate schedule stands (in samples of the whole run)."""

    first_sample: int
    samples: int
    position: int
    lease: int = 0
    """Number of the lease it is part of."""
    stride: int = 1
    """Of that lease."""


def orders_of(lease: dict[str, Any], batch: int) -> list[Order]:
    """The inner steps of a lease. The position moves `stride` samples for each: others train at the same time."""
    first, samples = int(lease["first_sample"]), int(lease["samples"])
    number, position, stride = int(lease["number"]), int(lease["position"]), int(lease["stride"])
    return [
        Order(first + done, min(batch, samples - done), position + done * stride, number, stride)
        for done in range(0, samples, batch)
    ]


class Supply:
    """Keeps about a minute of inner steps in stock."""

    def __init__(self, link: Link, life: int, batch: int, first_samples: int) -> None:
        """`first_samples`: what to ask for before the pace is known."""
        self._link, self._life, self._batch = link, life, batch
        self._stock: deque[Order] = deque()
        self._wanted, self._received = first_samples, 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.refused: str | None = None
        self.finished = False
        self.is_exhausted = False
        """The last answer was that there is nothing to do now."""
        self.threads = [Watched("leases", self._run)]

    def pace(self, seconds_per_step: float) -> None:
        """How fast this learner is: what it keeps in stock follows."""
        steps = max(1, round(AHEAD_S / max(seconds_per_step, 1e-4)))
        with self._changed:
            self._wanted = steps * self._batch
            self._changed.notify_all()

    def next(self, patience: float) -> Order | None:
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
                self._stock.extend(orders_of(answer["lease"], self._batch))
                self._changed.notify_all()
        elif "wait" in answer:
            with self._changed:
                self.is_exhausted = backlog == 0  # else others get their share first: ask again with half as much left
                self._changed.wait_for(
                    lambda: self._backlog() <= backlog // 2 or self._stopping.is_set(),
                    float(answer["wait"]) if self.is_exhausted else None,
                )
