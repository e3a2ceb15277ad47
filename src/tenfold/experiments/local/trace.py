"""A training step traced without computing anything: every operation, and the life of every tensor.

torch's FakeTensorMode carries shapes, strides and lifetimes, so that what is counted is what the trainer's own code
does, whatever becomes of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold.config import Model, Train
from tenfold.experiments.local.operation import Operation
from tenfold.experiments.local.places import UPDATE
from tenfold.experiments.local.recorder import MemoryBook, Recorder
from tenfold.model import Transformer
from tenfold.train.optimizers import build_optimizers
from tenfold.train.ranks import Ranks
from tenfold.train.step import TrainState, train_step

TRACED = 3  # equal micro-batches at most: the first, one in the middle that stands for all others, the last
MIDDLE = 2


@dataclass(frozen=True)
class StepTrace:
    """What a step does. `times` says how often each operation runs; `book` begins with building the model."""

    operations: list[Operation]
    times: list[int]
    book: MemoryBook
    built: int
    """Events of the book before the step."""


class _Building(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in the book what the model and then the optimizer are made of."""

    def __init__(self, book: MemoryBook) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.book, self.what = book, "weights"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.book.note(result, self.what)
        return result


class _Finite(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers the step's one question, whether it was finite, with yes: nothing is computed that could tell."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return True if func is torch.ops.aten._local_scalar_dense.default else func(*args, **(kwargs or {}))


def micro_batches_of(sequences: int, micro_batch: int | None) -> list[int]:
    """Sequences of each micro-batch, as the trainer splits a batch."""
    whole, rest = divmod(sequences, micro_batch or sequences)
    return [micro_batch or sequences] * whole + [rest] * (rest > 0)


def trace_step(model: Model, train: Train, vocab_size: int) -> StepTrace:
    """The step of [train] on the CPU in float32, eager."""
    sizes = micro_batches_of(train.batch_tokens // model.context, train.micro_batch)
    equal = sizes.count(sizes[0])
    left_out = max(0, equal - TRACED)
    book = MemoryBook()
    with FakeTensorMode():
        with _Building(book) as building:
            network = Transformer(model, vocab_size, torch.float32)
            building.what = "optimizer"
            optimizers = build_optimizers(network, train.optimizer)
        built = len(book.events)
        batches = [torch.empty((size, model.context + 1), dtype=torch.int64) for size in sizes[left_out:]]
        with _gradients_noted(network, book), _Finite(), Recorder(network, book) as recorder:
            state = TrainState(network, optimizers, train, Ranks(0, 1, torch.device("cpu")))
            train_step(state, batches, 1.0)
    record = recorder.record
    times = [
        1 + left_out * (number == MIDDLE and operation.place.phase != UPDATE)
        for operation, number in zip(record.operations, record.passes, strict=True)
    ]
    return StepTrace(record.operations, times, book, built)


@contextmanager
def _gradients_noted(network: Transformer, book: MemoryBook) -> Iterator[None]:
    handles = [
        p.register_post_accumulate_grad_hook(book.note_gradient)  # type: ignore[no-untyped-call]
        for p in network.parameters()
    ]
    yield
    for handle in handles:
        handle.remove()
