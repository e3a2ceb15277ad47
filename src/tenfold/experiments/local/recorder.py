"""A training step followed operation by operation: kind, sizes, place in the model, seconds, and the memory it makes.

A step is either run with a recorder below autograd, or traced without computing: FakeTensorMode of torch carries
shapes, strides and lifetimes, so that what is counted is what the trainer's own code does, whatever becomes of it.
"""

import time
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold.config import Model, Train
from tenfold.experiments.local.operations import Operation, Place, kind_and_sizes
from tenfold.model import Block, Transformer
from tenfold.train import Ranks, TrainState, build_optimizers, train_step

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"
NOT_WORK = ("prim.", "profiler.")  # questions about a tensor without data, marks for a profiler
TRACED = 3  # equal micro-batches at most: the first, one in the middle that stands for all others, the last
MIDDLE = 2


class Places:
    """Follows a step of a model.

    In the forward pass modules say by hooks that they are at work. A node of the backward pass carries the number that
    autograd had counted to when its forward operation ran, which leads back to the module.
    """

    def __init__(self, model: Transformer) -> None:
        self.passes = 0
        """Forward passes begun."""
        self._model = model
        self._stack: list[str] = []
        self._numbers: list[int] = []  # autograd's count whenever the module at work changed
        self._parts: list[str] = []  # the part at work from then on
        self._updating = False
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Put the hooks in place."""
        for part, module in _named_parts(self._model):
            self._handles.append(module.register_forward_pre_hook(self._entering(part)))
            self._handles.append(module.register_forward_hook(self._leaving))
        self._handles.append(register_optimizer_step_pre_hook(self._update_begins))
        self._handles.append(register_optimizer_step_post_hook(self._update_ends))

    def detach(self) -> None:
        """Take the hooks off the model again."""
        for handle in self._handles:
            handle.remove()

    def current(self) -> Place:
        """Where the operation that runs now belongs."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return Place(BACKWARD, self._part_of(node))
        if self._stack:
            return Place(FORWARD, self._stack[-1])
        return Place(UPDATE, "optimizer" if self._updating else "clipping")

    def _part_of(self, node: Any) -> str:
        number = bisect_right(self._numbers, node._sequence_nr()) - 1
        return (self._parts[number] if number >= 0 else "") or "gradients"

    def _entering(self, part: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self.passes += not self._stack
            self._stack.append(part)
            self._note()

        return hook

    def _leaving(self, *_: Any) -> None:
        self._stack.pop()
        self._note()

    def _note(self) -> None:
        self._numbers.append(torch._C._autograd._get_sequence_nr())
        self._parts.append(self._stack[-1] if self._stack else "")

    def _update_begins(self, *_: Any) -> None:
        self._updating = True

    def _update_ends(self, *_: Any) -> None:
        self._updating = False


def _named_parts(model: Transformer) -> Iterator[tuple[str, nn.Module]]:
    """Modules with the part that their own work, outside the modules within them that are named too, counts to."""
    yield "loss", model
    yield "embedding", model.embedding
    yield "norms", model.final_norm
    for block in model.blocks:
        assert isinstance(block, Block)
        yield "residual", block
        yield "norms", block.attention_norm
        yield "attention", block.attention
        yield "norms", block.mlp_norm
        yield "MLP", block.mlp


@dataclass
class StepRecord:
    """One training step: its operations in order."""

    operations: list[Operation] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    """Number, from 1, of the forward pass that each operation belongs to."""
    seconds: list[float] = field(default_factory=list)
    """Seconds of each operation; they mean something where the step was a real one."""


class StepRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills a record, and a log of allocations if there is one, while it is entered."""

    def __init__(self, model: Transformer, memory: "AllocationLog | None" = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record, self.memory = StepRecord(), memory
        self._places = Places(model)

    def __enter__(self) -> "StepRecorder":
        self._places.attach()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._places.detach()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and note it."""
        began = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - began
        if not str(func).startswith(NOT_WORK):
            place = self._places.current()
            self.record.operations.append(Operation(*kind_and_sizes(func, args, result), place))
            self.record.passes.append(self._places.passes)
            self.record.seconds.append(seconds)
            if self.memory:
                self.memory.note(result, place.phase)
        return result


class AllocationLog:
    """When tensors were made and freed, and in which phase each was made."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        """(number of a tensor, its bytes) when it is made, (number, -1) when it is freed."""
        self.made_in: dict[int, str] = {}
        """Number of a tensor → phase; what is a gradient is called so."""
        self._numbers: dict[int, int] = {}  # storage → number
        self._watched: dict[int, weakref.ref[Any]] = {}

    def note(self, result: Any, phase: str) -> None:
        """An operation returned this."""
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._watched:
                number = len(self.made_in)
                self.made_in[number], self._numbers[key] = phase, number
                self.events.append((number, storage.nbytes()))
                self._watched[key] = weakref.ref(storage, self._forget(key, number))

    def note_gradient(self, parameter: Tensor) -> None:
        """The parameter's gradient has been accumulated."""
        if parameter.grad is not None:
            self.made_in[self._numbers[parameter.grad.untyped_storage()._cdata]] = "gradients"

    def _forget(self, key: int, number: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            self.events.append((number, -1))
            self._watched.pop(key, None)

        return gone


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


@dataclass(frozen=True)
class StepTrace:
    """What a step does. `times` says how often each operation runs; `allocations` begins with building the model."""

    operations: list[Operation]
    times: list[int]
    allocations: AllocationLog
    built: int
    """Allocations before the step."""


class _Building(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes in the log of allocations what the model and then the optimizer are made of."""

    def __init__(self, allocations: AllocationLog) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.allocations, self.what = allocations, "weights"

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        self.allocations.note(result, self.what)
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
    allocations = AllocationLog()
    with FakeTensorMode():
        with _Building(allocations) as building:
            network = Transformer(model, vocab_size, torch.float32)
            building.what = "optimizer"
            optimizers = build_optimizers(network, train.optimizer)
        built = len(allocations.events)
        batches = [torch.empty((size, model.context + 1), dtype=torch.int64) for size in sizes[left_out:]]
        with _gradients_noted(network, allocations), _Finite(), StepRecorder(network, allocations) as recorder:
            state = TrainState(network, optimizers, train, Ranks(0, 1, torch.device("cpu")))
            train_step(state, batches, 1.0)
    record = recorder.record
    times = [
        1 + left_out * (number == MIDDLE and operation.place.phase != UPDATE)
        for operation, number in zip(record.operations, record.passes, strict=True)
    ]
    return StepTrace(record.operations, times, allocations, built)


@contextmanager
def _gradients_noted(network: Transformer, allocations: AllocationLog) -> Iterator[None]:
    handles = [
        p.register_post_accumulate_grad_hook(allocations.note_gradient)  # type: ignore[no-untyped-call]
        for p in network.parameters()
    ]
    yield
    for handle in handles:
        handle.remove()
