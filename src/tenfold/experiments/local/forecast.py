"""Step time and memory of a training run on this machine, forecast from its shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from statistics import NormalDist

import psutil
import torch

from tenfold.config import Model, Train
from tenfold.core import InputError, byte_size, span, text_table
from tenfold.experiments.local.calibration import MachineCalibration
from tenfold.experiments.local.memory import LocalMemory, memory_of
from tenfold.experiments.local.operations import Place
from tenfold.experiments.local.recorder import StepTrace, trace_step
from tenfold.machine import choose_compute_dtype

LEVELS = (0.5, 0.8, 0.9, 0.95)
SHARE_SHOWN = 0.005
SHARE_HEADS = ("phase", "part", "seconds", "share", "products", "elementwise", "starting")


@dataclass(frozen=True)
class TimeShare:
    """Seconds that one part of the model takes in one phase of the step, by what is done."""

    phase: str
    part: str
    products: float
    """Matrix products."""
    elementwise: float
    """Operations that go through elements once."""
    starting: float
    """Starting operations, however small: views of tensors, and the constant part of all others."""

    @property
    def seconds(self) -> float:
        """Sum of the three."""
        return self.products + self.elementwise + self.starting


@dataclass(frozen=True)
class LocalForecast:
    """One training run on this machine."""

    seconds: float
    """Seconds of a step: forward and backward of every micro-batch, clipping, update."""
    tokens_per_step: int
    shares: tuple[TimeShare, ...]
    """Shares of the step's parts; they sum to `seconds`."""
    operations: int
    """Operations of a step."""
    memory: LocalMemory
    uncertainty: float
    """Standard deviation of the logarithm of the step's seconds."""

    @property
    def interval(self) -> tuple[float, float]:
        """90% interval of the step's seconds."""
        return _interval(self.seconds, self.uncertainty, 0.9)

    @property
    def memory_interval(self) -> tuple[float, float]:
        """90% interval of the peak resident memory in bytes."""
        return _interval(self.memory.total, self.memory.spread, 0.9)

    @property
    def tokens_per_second(self) -> float:
        """While training; evaluations and checkpoints come on top."""
        return self.tokens_per_step / self.seconds

    def time_intervals(self) -> dict[str, tuple[float, float]]:
        """Level → seconds, as the ledger keeps them."""
        return {str(level): _interval(self.seconds, self.uncertainty, level) for level in LEVELS}

    def memory_intervals(self) -> dict[str, tuple[float, float]]:
        """Level → bytes."""
        return {str(level): _interval(self.memory.total, self.memory.spread, level) for level in LEVELS}

    def lines(self) -> list[str]:
        """What goes where, for people."""
        return [*self._time_lines(), *self._memory_lines()]

    def _time_lines(self) -> Iterator[str]:
        low, high = self.interval
        yield (
            f"step: {span(self.seconds)} (90%: {span(low)} to {span(high)}), "
            f"{self.tokens_per_second:,.0f} tokens/s, {self.operations:,} operations"
        )
        yield from _indented(text_table(SHARE_HEADS, list(self._share_rows()), "llr"))

    def _share_rows(self) -> Iterator[list[str]]:
        """A row for each part of the step that takes long enough to be shown, the longest first."""
        for share in sorted(self.shares, key=lambda s: -s.seconds):
            if share.seconds >= SHARE_SHOWN * self.seconds:
                groups = (f"{each / share.seconds:.0%}" for each in (share.products, share.elementwise, share.starting))
                of_step = f"{share.seconds / self.seconds:.1%}"
                yield [share.phase, share.part, f"{share.seconds:.4f}", of_step, *groups]

    def _memory_lines(self) -> Iterator[str]:
        low, high = self.memory_interval
        has = psutil.virtual_memory().total
        interval = f"90%: {byte_size(low)} to {byte_size(high)}"
        yield f"memory at the peak: {byte_size(self.memory.total)} ({interval}) of {byte_size(has)} here"
        parts = [(part, byte_size(size)) for part, size in self.memory.parts().items() if size]
        yield from _indented(text_table(("part", "at the peak"), parts))
        if high > has:
            yield "  it may not fit: set train.micro_batch lower, or train a smaller model"


def forecast_local(model: Model, train: Train, vocab_size: int, calibration: MachineCalibration) -> LocalForecast:
    """Forecast the training of `model` as [train] says, with the calibration's threads, on the CPU.

    Raises InputError for what the calibration knows nothing about: another dtype than float32, compiled models, and
    batches that are not whole sequences.
    """
    _check(model, train)
    trace = trace_step(model, train, vocab_size)
    shares = _shares(trace, calibration)
    seconds = sum(share.seconds for share in shares)
    memory = memory_of(trace, calibration.process_bytes)
    return LocalForecast(
        seconds=seconds,
        tokens_per_step=train.batch_tokens // model.context * model.context,
        shares=shares,
        operations=sum(trace.times),
        memory=memory,
        uncertainty=calibration.uncertainty,
    )


def _check(model: Model, train: Train) -> None:
    if train.compile == "on":
        raise InputError('train.compile = "on": only eager steps can be forecast here; set it to "off"')
    if choose_compute_dtype(torch.device("cpu"), train.precision) is not torch.float32:
        raise InputError('train.precision: only float32 steps can be forecast here; set it to "float32"')
    if train.batch_tokens % model.context or train.batch_tokens < model.context:
        raise InputError(f"train.batch_tokens = {train.batch_tokens}: not a multiple of model.context {model.context}")


def _shares(trace: StepTrace, calibration: MachineCalibration) -> tuple[TimeShare, ...]:
    costs, factor = calibration.costs, calibration.factor
    found: dict[Place, dict[str, float]] = {}
    for operation, times in zip(trace.operations, trace.times, strict=True):
        share = found.setdefault(operation.place, dict.fromkeys(("products", "elementwise", "starting"), 0.0))
        starting = costs.starting(operation)
        share["starting"] += factor * times * starting
        if operation.sizes:
            share[operation.group] += factor * times * (costs.seconds(operation) - starting)
    return tuple(TimeShare(phase, part, **share) for (phase, part), share in found.items())


def _interval(middle: float, spread: float, level: float) -> tuple[float, float]:
    reach = exp(NormalDist().inv_cdf((1 + level) / 2) * spread)
    return middle / reach, middle * reach


def _indented(lines: Sequence[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
