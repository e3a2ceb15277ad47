"""Small training steps, timed whole and operation by operation: what the costs of this machine are fitted to.

Their shapes span the sizes of operations, not of models: most have one or two layers, since layers repeat. An operation
is timed where it happens, with cache and allocator as a step leaves them, which a loop over one operation alone does
not see.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from tenfold.config import Model, Optimizer, Train
from tenfold.experiments.local.operation import Operation
from tenfold.experiments.local.recorder import Recorder
from tenfold.model import Transformer, initialise
from tenfold.train.learner import make_deterministic
from tenfold.train.optimizers import build_optimizers
from tenfold.train.ranks import Ranks
from tenfold.train.step import TrainState, train_step

FEWEST_ROUNDS, MOST_ROUNDS = 3, 10
"""Each goes through all probes, so that a busy moment does not spoil every measurement of one of them."""
SETTLED = 0.02
"""More rounds follow while one makes the best times better by more than this share."""


@dataclass(frozen=True)
class Shape:
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
) -> Shape:
    values = {"depth": depth, "width": width, "head_dim": head_dim, "context": context, **model}
    return Shape(Model.model_validate(values), vocabulary, tuple(micro_batches))


_ADAMW = Train(optimizer=Optimizer(kind="adamw"))
SHAPES = (
    _shape(8, 64, 16, 128, 512, [16]),
    _shape(2, 128, 32, 256, 4096, [8]),
    _shape(2, 256, 64, 128, 2048, [4]),
    _shape(1, 384, 32, 64, 8192, [8]),
    _shape(2, 48, 16, 512, 1024, [8]),
    _shape(2, 96, 32, 1024, 1024, [2], kv_heads=1),
    _shape(1, 64, 32, 128, 512, [64], mlp_width=1024),
    _shape(2, 160, 32, 192, 3000, [8], mlp="gelu", tied_embeddings=True),
    Shape(Model(depth=1, width=512, head_dim=64, context=128), 1024, (8,), _ADAMW),
    _shape(1, 192, 32, 256, 1024, [4, 4, 2]),
    _shape(6, 64, 16, 64, 512, [16]),
    _shape(1, 320, 32, 256, 4096, [4]),
)


class Probe:
    """A model, built as the trainer builds it, with random tokens to be trained on."""

    def __init__(self, shape: Shape, threads: int) -> None:
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
        with Recorder(self.network) as recorder:
            self.step()
        return Timed(recorder.record.operations, recorder.record.seconds, seconds)


def time_probes(threads: int, shapes: Sequence[Shape] = SHAPES) -> list[Timed]:
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
