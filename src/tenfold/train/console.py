"""What a person sees while a run goes on: one line a log interval, and a bar on a terminal."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@dataclass(frozen=True)
class StepReport:
    """Figures of one log interval. Loss in nats per token, rates per second, eta in seconds."""

    step: int
    steps: int
    loss: float
    bits_per_byte: float
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    mfu: float
    eta: float
    epochs: float

    def line(self) -> str:
        """Everything on one line."""
        return (
            f"step {self.step:>{len(str(self.steps))}}/{self.steps}  loss {self.loss:.4f}  "
            f"bpb {self.bits_per_byte:.3f}  lr {self.learning_rate:.2e}  grad {self.grad_norm:.2f}  "
            f"{self.tokens_per_second:,.0f} tok/s  MFU {self.mfu:.0%}  data {self.epochs:.2f} epochs  "
            f"ETA {duration(self.eta)}"
        )


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42s, 3m05s, 2h10m, 3d04h."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    for unit, smaller, size, small in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{smaller}"
    return f"{whole}s"


class RunConsole:
    """Prints to stderr; on a terminal a progress bar stays below the lines."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None

    def say(self, line: str) -> None:
        """One plain line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, done: int, total: int) -> None:
        """Move the bar to `done` of `total` steps."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("train", total=total)
            self._bar.update(self._task, completed=done, total=total)


@contextmanager
def run_console(*, enabled: bool = True) -> Iterator[RunConsole]:
    """The console of a run; silent when not `enabled` (ranks other than the first)."""
    console = Console(file=sys.stderr, quiet=not enabled)
    if not (enabled and console.is_terminal):
        yield RunConsole(console, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield RunConsole(console, bar)


class Stopwatch:
    """Splits wall time into what the step takes and what lies outside it."""

    def __init__(self) -> None:
        self.reset()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count what happens inside as step time."""
        start = time.perf_counter()
        yield
        self.step_seconds += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside at all."""
        start = time.perf_counter()
        yield
        self._mark += time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """Wall time since the last reset, pauses left out."""
        return time.perf_counter() - self._mark

    def reset(self) -> None:
        """Begin a new interval."""
        self._mark = time.perf_counter()
        self.step_seconds = 0.0
