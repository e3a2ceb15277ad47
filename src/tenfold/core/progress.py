"""Progress of a long stage: a line now and then with rate and time left."""

import time
from dataclasses import dataclass

from tenfold.core.console import RunConsole
from tenfold.core.text import duration

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Progress:
    """How far one stage of the build is. `total` is None while unknown."""

    stage: str
    done: int
    total: int | None
    unit: str


class ProgressLines:
    """Turns Progress reports into console lines: one when a stage begins, then every few seconds."""

    def __init__(self, console: RunConsole) -> None:
        self._console = console
        self._stage = ""
        self._began = self._said = 0.0

    def __call__(self, progress: Progress) -> None:
        """Take one report."""
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._began, self._said = progress.stage, now, now
            self._console.say(f"data: {progress.stage}")
        elif now - self._said >= SECONDS_BETWEEN_LINES and progress.done:
            self._said = now
            self._console.say(f"data: {progress.stage}: {self._rate(progress, now - self._began)}")

    def _rate(self, progress: Progress, seconds: float) -> str:
        rate = progress.done / seconds
        line = f"{progress.done:,} {progress.unit}, {rate:,.0f}/s"
        if progress.total:
            line += f", {progress.done / progress.total:.0%}, ETA {duration((progress.total - progress.done) / rate)}"
        return line
