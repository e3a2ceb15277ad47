"""What the console says about a step, and the watch that tells step time from the time around it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tenfold.core.text import duration


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
