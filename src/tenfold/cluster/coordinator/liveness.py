"""Liveness judged by progress: which lives stand still for longer than what they are doing allows.

A heartbeat thread beats on while the training thread hangs in a collective or a dead file system, so a beat that says
the same as the one before counts for nothing. The other way round, a disk or a link that is slow but still moves bytes
is no reason to kill a learner, so what is slow by nature is judged by the bytes done and gets more time.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from tenfold.errors import TenfoldError

STEP = "step"
SLOW_PHASES = ("saving", "evaluating", "healing")  # their detail is bytes done
REMEMBERED_STEPS = 20
FIRST_STEP = 10.0  # × minimum: the first step compiles and warms up
SLOW_PHASE = 30.0  # × minimum, since the last byte


@dataclass(frozen=True)
class _Watch:
    """What is known of one life; times in seconds of the caller's clock."""

    progress_at: float
    heard_at: float
    report: tuple[int, str, int] | None = None
    stepping: float = 0.0  # seconds in phase "step" since the last step ended: a long save is no long step
    first_step: float | None = None
    intervals: tuple[float, ...] = ()

    @property
    def phase(self) -> str:
        return self.report[1] if self.report else STEP

    def heard(self, now: float, report: tuple[int, str, int]) -> "_Watch":
        """After one report. A clock that lags behind, as between threads, is held."""
        now = max(now, self.heard_at)
        stepping = self.stepping + (now - self.heard_at if self.phase == STEP else 0.0)
        watch = replace(self, heard_at=now, stepping=stepping)
        if report == self.report:
            return watch
        steps = report[0] - self.report[0] if self.report else 0
        return replace(watch._stepped(steps), progress_at=now, report=report)

    def _stepped(self, steps: int) -> "_Watch":
        """After `steps` more steps, which beats may report several at a time."""
        if steps == 0:
            return self
        if steps < 0:
            return replace(self, stepping=0.0)
        seconds = self.stepping / steps
        if self.first_step is None:
            return replace(self, stepping=0.0, first_step=seconds)
        return replace(self, stepping=0.0, intervals=(*self.intervals, seconds)[-REMEMBERED_STEPS:])

    def allowance(self, minimum: float, factor: float) -> float:
        """Seconds without progress that are no stall."""
        if self.phase != STEP:
            return SLOW_PHASE * minimum
        if self.first_step is None:
            return FIRST_STEP * minimum
        # Until there is an interval the first step is the only hint of how long one takes.
        return max(minimum, factor * max(self.intervals, default=self.first_step))


class Liveness:
    """Who stalls. Pure: every method takes the time, in seconds of one monotonic clock. Safe to use from many threads.

    Allowances, in seconds since the last progress:

    - step: max(minimum, factor × longest of the last 20 intervals between steps); 10 × minimum for the first step
    - saving, evaluating, healing: 30 × minimum
    """

    def __init__(self, minimum: float, factor: float) -> None:
        """`minimum` seconds, several beats, are always allowed; `factor` scales the slowest of a life's own steps."""
        self._minimum = minimum
        self._factor = factor
        self._watched: dict[int, _Watch] = {}
        self._lock = threading.Lock()

    def started(self, life: int, now: float) -> None:
        """Watch a life from its activation on; its next step counts as the first."""
        with self._lock:
            self._watched[life] = _Watch(now, now)

    def progress(self, life: int, now: float, step: int, phase: str, detail: int) -> None:
        """What a heartbeat says: steps done, what the life is doing, and how far it is in that (bytes done).

        Any change is progress, a repetition is none. A late beat of a life that is not watched is ignored, so that the
        dead are not watched again. Raises TenfoldError for an unknown phase.
        """
        if phase != STEP and phase not in SLOW_PHASES:
            raise TenfoldError(f"life {life}: phase {phase!r}; there are {', '.join((STEP, *SLOW_PHASES))}")
        with self._lock:
            if (watch := self._watched.get(life)) is not None:
                self._watched[life] = watch.heard(now, (step, phase, detail))

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
