"""Liveness judged by progress: which lives stand still for longer than what they are doing allows.

A heartbeat thread beats on while the training thread hangs in a collective or a dead file system, so a beat that says
the same as the one before counts for nothing. What is slow by nature happens beside training (checkpoints, the link) or
before it (joining), and is no reason to kill a learner.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from tenfold.core.errors import TenfoldError

REMEMBERED_STEPS = 20
FIRST_STEP = 10.0  # × minimum: the first step compiles and warms up
JOINING = 30.0  # × minimum: fragments and inner state come over a link that may be slow


@dataclass(frozen=True)
class _Watch:
    """What is known of one life; times in seconds of the caller's clock."""

    progress_at: float
    step_since: float
    """When the step under way began: at the end of the one before, or of a wait for samples."""
    is_joining: bool = False
    report: tuple[int, int] | None = None
    first_step: float | None = None
    intervals: tuple[float, ...] = ()

    def heard(self, now: float, report: tuple[int, int]) -> "_Watch":
        """After one report. A clock that lags behind, as between threads, is held."""
        if report == self.report:
            return self
        now = max(now, self.progress_at)
        watch = replace(self, progress_at=now, report=report)
        if self.report is None:
            return watch
        steps = report[0] - self.report[0]
        return replace(watch._stepped(now - self.step_since, steps) if steps > 0 else watch, step_since=now)

    def _stepped(self, seconds: float, steps: int) -> "_Watch":
        """After `steps` more steps, which beats may report several at a time."""
        if self.first_step is None:
            return replace(self, first_step=seconds / steps)
        return replace(self, intervals=(*self.intervals, seconds / steps)[-REMEMBERED_STEPS:])

    def allowance(self, minimum: float, factor: float) -> float:
        """Seconds without progress that are no stall."""
        if self.is_joining:
            return JOINING * minimum
        if self.first_step is None:
            return FIRST_STEP * minimum
        # Until there is an interval the first step is the only hint of how long one takes.
        return max(minimum, factor * max(self.intervals, default=self.first_step))


class Liveness:
    """Who stalls. Pure: every method takes the time, in seconds of one monotonic clock. Safe to use from many threads.

    Allowances, in seconds since the last progress:

    - training: max(minimum, factor × longest of the last 20 intervals between steps); 10 × minimum for the first step
    - joining: 30 × minimum
    """

    def __init__(self, minimum: float, factor: float) -> None:
        """`minimum` seconds, several beats, are always allowed; `factor` scales the slowest of a life's own steps."""
        self._minimum = minimum
        self._factor = factor
        self._watched: dict[int, _Watch] = {}
        self._lock = threading.Lock()

    def joining(self, life: int, now: float) -> None:
        """Watch a life that is on its way to its first step."""
        with self._lock:
            self._watched[life] = _Watch(now, now, is_joining=True)

    def started(self, life: int, now: float) -> None:
        """Watch a life from its activation on; its next step counts as the first."""
        with self._lock:
            self._watched[life] = _Watch(now, now)

    def progress(self, life: int, now: float, step: int, waits: int) -> None:
        """What a heartbeat says: steps done, and how often it was found that there is nothing to train.

        Any change is progress, a repetition is none. A late beat of a life that is not watched is ignored, so that the
        dead are not watched again.
        """
        with self._lock:
            if (watch := self._watched.get(life)) is not None:
                self._watched[life] = watch.heard(now, (step, waits))

    def stalled(self, now: float) -> list[tuple[int, float]]:
        """(life, seconds since its last progress) of every life that stands still for longer than it may."""
        with self._lock:
            watched = sorted(self._watched.items())
        return [
            (life, now - watch.progress_at)
            for life, watch in watched
            if now - watch.progress_at > watch.allowance(self._minimum, self._factor)
        ]

    def silence(self, life: int, now: float) -> float:
        """Seconds since a watched life's last progress; beats that repeat themselves do not break it."""
        return now - self._watch(life).progress_at

    def step_seconds(self, life: int) -> float | None:
        """Median of a watched life's last 20 intervals between steps; None before the second step."""
        intervals: Sequence[float] = self._watch(life).intervals
        return median(intervals) if intervals else None

    def forget(self, life: int) -> None:
        """Stop watching a life that is over."""
        with self._lock:
            self._watched.pop(life, None)

    def _watch(self, life: int) -> _Watch:
        with self._lock:
            watch = self._watched.get(life)
        if watch is None:
            raise TenfoldError(f"life {life} is not watched")
        return watch
