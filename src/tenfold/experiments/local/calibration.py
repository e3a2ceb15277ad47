"""What this machine takes for the operations of a training step: measured in seconds, kept in the user's cache.

Probes are small training steps, timed whole and operation by operation. Their shapes span the sizes of operations, not
of models: most have one or two layers, since layers repeat. An operation is timed where it happens, with cache and
allocator as a step leaves them, which a loop over one operation alone does not see.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psutil
import torch

from tenfold.config import Model, Optimizer, Train
from tenfold.core import InputError, read_user_cache, write_user_cache
from tenfold.experiments.local.operations import Costs, Operation, fit_costs
from tenfold.experiments.local.recorder import StepRecorder
from tenfold.machine import cpu_name, usable_cores
from tenfold.model import Transformer, initialise
from tenfold.scaling import NORMAL_MAD
from tenfold.train import Ranks, TrainState, build_optimizers, make_deterministic, train_step

FEWEST_ROUNDS, MOST_ROUNDS = 3, 10
"""Each goes through all probes, so that a busy moment does not spoil every measurement of one of them."""
SETTLED = 0.02
"""More rounds follow while one makes the best times better by more than this share."""
_ADAMW = Train(optimizer=Optimizer(kind="adamw"))
CACHE = "local_plan.json"  # in the user's cache
FORMAT = 1  # of the kept file: another one is measured again
NOISE = 0.05
"""Standard deviation of the logarithm of a step: others at work and changing clocks, which no calibration knows."""
OTHERS_COST = 0.5
"""What a machine that others use altogether adds to that."""
BUSY = 0.1
USUAL = 1.04
"""The median step of a machine left alone over the best of a few: found with the tuning configurations."""
RESIDENT = f"from {__name__} import print_resident; print_resident()"


@dataclass(frozen=True)
class ProbeShape:
    """A training step to try: the model, its vocabulary, sequences of each micro-batch, [train]."""

    model: Model
    vocabulary: int
    micro_batches: tuple[int, ...]
    train: Train = field(default_factory=Train)


@dataclass(frozen=True)
class Timed:
    """Operations of a step with the least seconds of each, and the least seconds of the whole without a recorder.

    Others at work on the machine only ever make it slower.
    """

    operations: list[Operation]
    seconds: list[float]
    step_seconds: float


def _shape(
    depth: int, width: int, head_dim: int, context: int, vocabulary: int, micro_batches: Sequence[int], **model: object
) -> ProbeShape:
    values = {"depth": depth, "width": width, "head_dim": head_dim, "context": context, **model}
    return ProbeShape(Model.model_validate(values), vocabulary, tuple(micro_batches))


SHAPES = (
    _shape(8, 64, 16, 128, 512, [16]),
    _shape(2, 128, 32, 256, 4096, [8]),
    _shape(2, 256, 64, 128, 2048, [4]),
    _shape(1, 384, 32, 64, 8192, [8]),
    _shape(2, 48, 16, 512, 1024, [8]),
    _shape(2, 96, 32, 1024, 1024, [2], kv_heads=1),
    _shape(1, 64, 32, 128, 512, [64], mlp_width=1024),
    _shape(2, 160, 32, 192, 3000, [8], mlp="gelu", tied_embeddings=True),
    ProbeShape(Model(depth=1, width=512, head_dim=64, context=128), 1024, (8,), _ADAMW),
    _shape(1, 192, 32, 256, 1024, [4, 4, 2]),
    _shape(6, 64, 16, 64, 512, [16]),
    _shape(1, 320, 32, 256, 4096, [4]),
)


class Probe:
    """A model, built as the trainer builds it, with random tokens to be trained on."""

    def __init__(self, shape: ProbeShape, threads: int) -> None:
        make_deterministic(threads)
        self.network = Transformer(shape.model, shape.vocabulary, torch.float32)
        initialise(self.network, 0)
        self.state = TrainState(
            root=self.network,
            optimizers=build_optimizers(self.network, shape.train.optimizer),
            train=shape.train,
            ranks=Ranks(0, 1, torch.device("cpu")),
        )
        draw = torch.Generator().manual_seed(0)
        sizes = [(count, shape.model.context + 1) for count in shape.micro_batches]
        self.batches = [torch.randint(shape.vocabulary, size, generator=draw) for size in sizes]

    def step(self) -> float:
        """Seconds of one training step."""
        began = time.perf_counter()
        train_step(self.state, self.batches, 1.0).tolist()  # waits for the device
        return time.perf_counter() - began

    def timed(self) -> Timed:
        """One step without and one with a recorder."""
        seconds = self.step()
        with StepRecorder(self.network) as recorder:
            self.step()
        return Timed(recorder.record.operations, recorder.record.seconds, seconds)


def time_probes(threads: int, shapes: Sequence[ProbeShape] = SHAPES) -> list[Timed]:
    """Time all probes, until their best times hardly fall any more; the process keeps its number of threads."""
    before = torch.get_num_threads()
    try:
        probes = [Probe(shape, threads) for shape in shapes]
        for probe in probes:
            probe.step()
        best = [probe.timed() for probe in probes]
        for number in range(2, MOST_ROUNDS + 1):
            better = [_better(so_far, probe.timed()) for so_far, probe in zip(best, probes, strict=True)]
            settled = _total(better) > (1 - SETTLED) * _total(best)
            best = better
            if settled and number >= FEWEST_ROUNDS:
                break
    finally:
        torch.set_num_threads(before)
    return best


def _better(one: Timed, other: Timed) -> Timed:
    seconds = [min(pair) for pair in zip(one.seconds, other.seconds, strict=True)]
    return Timed(one.operations, seconds, min(one.step_seconds, other.step_seconds))


def _total(timed: Sequence[Timed]) -> float:
    return sum(each.step_seconds + sum(each.seconds) for each in timed)


@dataclass(frozen=True)
class MachineCalibration:
    """The machine with so many threads.

    A step takes `factor` times the sum of its operations: between them Python and autograd are at work, and the best
    of a few times of each is not had by all at once. `spread` is the standard deviation of the logarithm of what is
    left over on the probes, `others` the share of the machine's cores that other processes used meanwhile.
    """

    machine: str
    threads: int
    costs: Costs
    factor: float
    spread: float
    others: float
    process_bytes: int
    """Resident memory of a training process before it builds a model."""
    seconds: float
    """What measuring took."""
    measured_at: float

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the logarithm of a forecast step time."""
        return float(np.linalg.norm([self.spread, NOISE, OTHERS_COST * self.others]))

    def warnings(self) -> list[str]:
        """What speaks against it."""
        if self.others < BUSY:
            return []
        return [
            f"others used {self.others:.0%} of the cores during the calibration; calibrate again when they are idle"
        ]


def calibrate(threads: int, *, again: bool = False, say: Callable[[str], None] | None = None) -> MachineCalibration:
    """The calibration for so many threads, from the user's cache unless `again`; 15 to 40 s where it is measured.

    `say` is told before that begins. Raises InputError when the machine has fewer cores.
    """
    if not 1 <= threads <= usable_cores():
        raise InputError(f"train.threads = {threads}: this machine has {usable_cores()} cores to calibrate on")
    key = f"{cpu_name()} | {threads} | torch {torch.__version__} | format {FORMAT}"
    kept = None if again else _from_record(read_user_cache(CACHE).get(key))
    if kept is not None:
        return kept
    if say:
        say(f"measuring what this machine takes with {threads} threads: about half a minute, once")
    measured = _measure(key, threads)
    write_user_cache(CACHE, read_user_cache(CACHE) | {key: asdict(measured)})
    return measured


def _measure(key: str, threads: int) -> MachineCalibration:
    began, work = time.monotonic(), _cpu_seconds()
    timed = time_probes(threads)
    others = _share_of_others(work, time.monotonic() - began)
    costs, factor, spread = fit_machine(timed)
    process = _process_bytes()
    return MachineCalibration(
        key, threads, costs, USUAL * factor, spread, others, process, time.monotonic() - began, time.time()
    )


def _cpu_seconds() -> tuple[float, float]:
    """Worked by the whole machine and by this process, since they began."""
    whole, mine = psutil.cpu_times(), os.times()
    return whole.user + whole.system, mine.user + mine.system


def _share_of_others(before: tuple[float, float], elapsed: float) -> float:
    whole, mine = (now - then for now, then in zip(_cpu_seconds(), before, strict=True))
    return min(1.0, max(0.0, (whole - mine) / elapsed / (psutil.cpu_count() or 1)))


def fit_machine(timed: Sequence[Timed]) -> tuple[Costs, float, float]:
    """Costs of operations, the factor from their sum to a step, and the spread about it."""
    costs = fit_costs(
        (operation, seconds)
        for probe in timed
        for operation, seconds in zip(probe.operations, probe.seconds, strict=True)
    )
    ratios = np.log([probe.step_seconds / sum(map(costs.seconds, probe.operations)) for probe in timed])
    factor = float(np.median(ratios))
    return costs, float(np.exp(factor)), float(NORMAL_MAD * np.median(np.abs(ratios - factor)))


def _process_bytes() -> int:
    """Measured in a process of its own: this one has other things in memory."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    return int(done.stdout)


def print_resident() -> None:
    """Print the resident memory of a training process before it builds a model, with all loaded that it needs."""
    from tenfold.evaluate import HoldoutScores
    from tenfold.experiments.register import ForecastWatcher
    from tenfold.learners import train_with_learners
    from tenfold.machine import resident_bytes
    from tenfold.train import Loop

    assert all((HoldoutScores, ForecastWatcher, train_with_learners, Loop))
    make_deterministic(1)
    print(resident_bytes())


def _from_record(record: Any) -> MachineCalibration | None:
    """None where there is none, or one that is not whole."""
    try:
        by_kind = {kind: tuple(found) for kind, found in record["costs"]["by_kind"].items()}
        costs = Costs(by_kind, record["costs"]["fresh"])
        return MachineCalibration(**{**record, "costs": costs})
    except (KeyError, TypeError, AttributeError):
        return None
