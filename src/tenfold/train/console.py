"""How fast a run goes, and the lines on the console about it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tenfold.core import RunConsole, duration
from tenfold.data import epochs_in_words
from tenfold.ledger import MFU, OVERHEAD, PEAK_MEMORY, TOKENS_PER_SECOND, IncidentClosed
from tenfold.machine import forget_peak, measured_peak, peak_resident_bytes
from tenfold.train.checkpoint import Checkpoint
from tenfold.train.journal import Journal
from tenfold.train.learner import Learner
from tenfold.train.observe import Notice, Observer
from tenfold.train.step import StepMeasure


class Stopwatch:
    """Splits wall time into what the step takes and what lies outside it."""

    def __init__(self) -> None:
        self.reset()

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


@dataclass(frozen=True)
class TrainingRate:
    """How fast training went in one log interval: MFU and overhead as shares, eta in seconds."""

    tokens_per_second: float
    mfu: float
    overhead: float
    """Of the time, what did not go into steps."""
    eta: float


class Throughput(Observer):
    """Measures the rate of every log interval and notes it in the journal. Comes first in the list."""

    name = "throughput"

    def __init__(self, learner: Learner, journal: Journal, *, brief: bool = False) -> None:
        """`brief`: one of many small runs, which takes the machine's peak as measured before and notes no memory."""
        self._learner, self._plan, self._journal, self._brief = learner, learner.plan, journal, brief
        self.watch = Stopwatch()
        self.latest: TrainingRate | None = None
        """Of the interval that ended with the last step; None in the middle of one."""

    def started(self, step: int) -> None:
        self._last = step
        self._peak = self._measure_peak()
        if not self._brief:
            forget_peak()
        self.watch.reset()

    def _measure_peak(self) -> float:
        """FLOP/s that MFU is a share of; only the rank that reports it needs to know."""
        ranks, plan = self._learner.ranks, self._plan
        if not ranks.is_first:
            return math.inf
        return measured_peak(ranks.device, plan.threads, plan.compute_dtype, again=not self._brief).flops

    def after_step(self, measure: StepMeasure) -> None:
        self.watch.step_seconds += measure.seconds
        at_end = measure.is_last or measure.step % self._learner.train.log_every == 0
        self.latest = self._rate(measure.step) if at_end else None
        if self.latest is None:
            return
        self._last = measure.step
        rate = self.latest
        figures = {TOKENS_PER_SECOND: rate.tokens_per_second, MFU: rate.mfu, OVERHEAD: rate.overhead}
        if not self._brief:
            figures[PEAK_MEMORY] = float(peak_resident_bytes())
        self._journal.note(measure.step, figures)

    def _rate(self, step: int) -> TrainingRate:
        plan, watch = self._plan, self.watch
        seconds, step_seconds = watch.seconds, watch.step_seconds
        watch.reset()  # what follows, the ledger and the console, counts into the next interval
        per_second = (step - self._last) * plan.tokens_per_step / seconds
        return TrainingRate(
            tokens_per_second=per_second,
            mfu=per_second * plan.flops_per_token / self._peak / self._learner.ranks.world_size,
            overhead=max(0.0, 1 - step_seconds / seconds),
            eta=(plan.steps - step) * plan.tokens_per_step / per_second,
        )


class ConsoleWarnings(Observer):
    """Says what is noticed, and nothing else: for one of many small runs."""

    name = "console"

    def __init__(self, console: RunConsole) -> None:
        self._console = console

    def noticed(self, notice: Notice) -> None:
        over = isinstance(notice.what, IncidentClosed)
        (self._console.say if over else self._console.warn)(notice.message)


class ConsoleLines(ConsoleWarnings):
    """A line for every log interval, and a bar on a terminal."""

    def __init__(
        self,
        console: RunConsole,
        learner: Learner,
        throughput: Throughput,
        beside: Callable[[], str] = lambda: "",
    ) -> None:
        """`beside`: what else belongs on the line, as where the loss stands in its forecast."""
        super().__init__(console)
        self._learner, self._throughput, self._beside = learner, throughput, beside

    def resumed(self, step: int, checkpoint: Checkpoint) -> None:
        self._console.say(f"resumed from {checkpoint.path} at step {step}/{self._learner.plan.steps}")

    def started(self, step: int) -> None:
        plan, ranks = self._learner.plan, self._learner.ranks
        dtype = str(plan.compute_dtype).removeprefix("torch.")
        left = (plan.steps - step) * plan.tokens_per_step
        self._console.say(
            f"training {plan.parameters:,} parameters on {left:,} tokens: {plan.steps} steps of "
            f"{plan.tokens_per_step:,} tokens, {ranks.world_size} × {ranks.device.type}, {plan.threads} threads, "
            f"{dtype}{', compiled' if plan.compiled else ''}"
        )

    def after_step(self, measure: StepMeasure) -> None:
        self._console.advance(measure.step, measure.steps)
        if rate := self._throughput.latest:
            beside = self._beside()
            self._console.say(self._line(measure, rate) + (f"  {beside}" if beside else ""))

    def _line(self, measure: StepMeasure, rate: TrainingRate) -> str:
        epochs = epochs_in_words(self._learner.stream.epochs(measure.first_sample + measure.samples))
        return (
            f"step {measure.step:>{len(str(measure.steps))}}/{measure.steps}  loss {measure.nats:.4f}  "
            f"bpb {measure.bits_per_byte:.3f}  lr {measure.learning_rate:.2e}  grad {measure.grad_norm:.2f}  "
            f"{rate.tokens_per_second:,.0f} tok/s  MFU {rate.mfu:.0%}  data {epochs}  "
            f"ETA {duration(rate.eta)}"
        )
