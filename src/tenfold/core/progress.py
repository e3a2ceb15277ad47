"""Progress of long work: a line now and then, or a bar on a terminal, with rate and time left."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from tenfold.core.console import RunConsole
from tenfold.core.text import duration

SECONDS_BETWEEN_LINES = 5.0
SECONDS = "seconds"
"""The unit of work that tells nothing but how long it has gone on."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Progress:
    """How far one stage of some work is. `total` is None while it is unknown."""

    stage: str
    done: float
    total: float | None
    unit: str


class Rate:
    """Rate of work since `done` of it was done, and the time the rest takes at that rate."""

    def __init__(self, done: float = 0.0, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began, self._before = clock(), done

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    def rate(self, done: float) -> float:
        """Units a second; 0 while nothing is known."""
        seconds = self.seconds
        return (done - self._before) / seconds if seconds > 0 else 0.0

    def seconds_left(self, done: float, total: float) -> float:
        """Seconds until `total`; infinite while nothing moves."""
        rate = self.rate(done)
        return (total - done) / rate if rate > 0 else math.inf

    def eta(self, done: float, total: float) -> str:
        """`ETA 3m05s`, with ? while nothing moves."""
        return f"ETA {duration(self.seconds_left(done, total))}"


class ProgressLines:
    """Shows Progress reports: one line when a stage begins, then one every few seconds, and the bar if there is one.

    `name` begins each line: `data: tokenising web: 1,024 documents, 512/s, 10%, ETA 18s`.
    """

    def __init__(
        self,
        console: RunConsole,
        name: str = "data",
        every: float = SECONDS_BETWEEN_LINES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._console, self._name, self._every, self._clock = console, name, every, clock
        self._stage, self._said = "", 0.0
        self._rate = Rate(clock=clock)

    def __call__(self, progress: Progress) -> None:
        """Show `done` of `total`, a line now and then."""
        now = self._clock()
        if progress.stage != self._stage:
            self._console.take_away(self._stage)
            self._stage, self._said, self._rate = progress.stage, now, Rate(progress.done, self._clock)
            self._console.say(f"{self._name}: {progress.stage}")
        elif now - self._said >= self._every and progress.done:
            self._said = now
            self._console.say(f"{self._name}: {progress.stage}: {self._line(progress)}")
        if progress.total is not None:
            self._console.advance(progress.done, progress.total, progress.stage)

    def counter(self, stage: str, unit: str) -> Callable[[int, int], None]:
        """A callback of (done, total) for work that knows no Progress."""
        return lambda done, total: self(Progress(stage, done, total, unit))

    def _line(self, progress: Progress) -> str:
        line = f"{progress.done:,.0f} {progress.unit}"
        line += f", {self._rate.rate(progress.done):,.0f}/s" if progress.unit != SECONDS else ""
        if progress.total:
            line += f", {progress.done / progress.total:.0%}, {self._rate.eta(progress.done, progress.total)}"
        return line
