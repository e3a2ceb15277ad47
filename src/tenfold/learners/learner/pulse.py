"""What a learner says about itself, four times a second, from a thread of its own; progress is the main thread's."""

import threading
from dataclasses import dataclass, replace
from typing import Any

from tenfold.learners.watched import Watched
from tenfold.learners.wire import Link, LinkMeasure, Refused, Unreachable

EVERY_S = 0.25


@dataclass
class Vitals:
    """Written by the training thread, read by the pulse."""

    step: int = 0
    waits: int = 0
    """How often there was nothing to train: to wait is no hang."""
    idle: bool = False
    flushed: bool = False
    tokens_per_second: float = 0.0
    longest_gap: float = 0.0
    """Longest time between the ends of two steps of this life, in seconds; its first steps left out."""


class Pulse:
    """Sends vitals and losses until closed; says when the syncer has ended this life or the run."""

    def __init__(self, link: Link, life: int, vitals: Vitals, up: LinkMeasure, down: LinkMeasure) -> None:
        """`up` and `down`: of the links that carry fragments to the syncer and from it."""
        self._link, self._life, self._vitals, self._up, self._down = link, life, vitals, up, down
        self._losses: list[tuple[int, float, int, float]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.ended: str | None = None
        self.finished = False
        self.threads = [Watched("pulse", self._run)]

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
