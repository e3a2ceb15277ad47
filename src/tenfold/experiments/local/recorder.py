"""Notes every operation of a training step below autograd: kind, sizes, place, seconds, and what memory it makes."""

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tenfold.experiments.local.operation import Operation, kind_and_sizes
from tenfold.experiments.local.places import Places
from tenfold.model import Transformer

NOT_WORK = ("prim.", "profiler.")  # questions about a tensor without data, marks for a profiler


@dataclass
class StepRecord:
    """One training step: its operations in order."""

    operations: list[Operation] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    """Of each operation: the number of the forward pass it belongs to, from 1."""
    seconds: list[float] = field(default_factory=list)
    """Of each operation; they mean something where the step was a real one."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fills a record, and a book of memory if there is one, while it is entered."""

    def __init__(self, model: Transformer, memory: "MemoryBook | None" = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record, self.memory = StepRecord(), memory
        self._places = Places(model)

    def __enter__(self) -> "Recorder":
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


class MemoryBook:
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
