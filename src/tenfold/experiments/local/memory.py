"""Resident memory of a training process at its highest, by part."""

from collections import Counter
from dataclasses import asdict, dataclass
from math import hypot

from tenfold.experiments.local.allocator import Heap
from tenfold.experiments.local.recorder import MemoryBook
from tenfold.experiments.local.trace import StepTrace

STEPS = 3  # the second step finds the heap as the first left it
# Beyond what tensors need: threads' stacks, kernels' code and packing buffers, autograd's nodes. Found, as is the
# spread, with the configurations that benchmarks/local_plan.py calls tuning.
TORCH_BYTES = 20 * 10**6
HEAP_FACTOR = 1.03
SPREAD = 0.07
"""Standard deviation of the logarithm of added memory: half of it is the scatter of one configuration run again."""
PROCESS_SPREAD = 10e6
"""Standard deviation in bytes of what does not depend on the model."""
PARTS = {
    "weights": "weights",
    "optimizer": "optimizer",
    "gradients": "gradients",
    "forward": "activations",
    "backward": "buffers",
    "update": "buffers",
}
"""Phase in which a tensor was made → part that it counts to."""


@dataclass(frozen=True)
class LocalMemory:
    """Bytes at the peak. The parts sum to `total`."""

    weights: int
    gradients: int
    """Those that exist at the peak: the first backward pass begins without."""
    optimizer: int
    activations: int
    """What the forward pass made and the backward pass still needs."""
    buffers: int
    """Made in the backward pass or the update."""
    allocator: int
    """Holes of the heap."""
    process: int
    """Python, torch and what they need before and beside the model."""
    checkpoint: int = 0
    """The copy that is being written while training goes on."""
    data: int = 0
    """Pages of the corpus that have been read."""
    run: int = 0
    """Evaluation, ledger and whatever else goes on beside the steps."""

    @property
    def added(self) -> int:
        """What training adds to a process that has torch loaded."""
        return self.total - self.process + TORCH_BYTES

    @property
    def total(self) -> int:
        """Peak resident memory."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Bytes by part."""
        return asdict(self)

    @property
    def spread(self) -> float:
        """Standard deviation of the total, as a share of it."""
        return hypot(SPREAD * self.added, PROCESS_SPREAD) / self.total


def memory_of(trace: StepTrace, process_bytes: int) -> LocalMemory:
    """Memory of a step, in a process that takes `process_bytes` before a model is built."""
    parts = _at_peak(trace.book)
    held = sum(parts.values())
    heap = round(HEAP_FACTOR * _heap_peak(trace))
    return LocalMemory(
        weights=parts["weights"],
        gradients=parts["gradients"],
        optimizer=parts["optimizer"],
        activations=parts["activations"],
        buffers=parts["buffers"],
        allocator=max(0, heap - held),
        process=process_bytes + TORCH_BYTES,
    )


def _at_peak(book: MemoryBook) -> Counter[str]:
    """Bytes of each part at the moment when tensors hold most."""
    sizes: dict[int, int] = {}
    now: Counter[str] = Counter()
    best: Counter[str] = Counter()
    held = most = 0
    for number, size in book.events:
        change = size if size >= 0 else -sizes[number]
        sizes.setdefault(number, size)
        now[PARTS[book.made_in[number]]] += change
        held += change
        if held > most:
            most, best = held, now.copy()
    return best


def _heap_peak(trace: StepTrace) -> int:
    heap = Heap()
    heap.replay(trace.book.events[: trace.built])
    step = trace.book.events[trace.built :]
    for number in range(STEPS):
        heap.replay(_as_step(step, (number + 1) * len(trace.book.made_in)))
    return heap.peak


def _as_step(events: list[tuple[int, int]], offset: int) -> list[tuple[int, int]]:
    """A step's events under other numbers; what it made and left is freed at its end."""
    alive: dict[int, None] = {}
    renumbered = []
    for number, size in events:
        if size >= 0:
            alive[number] = None
        elif number in alive:
            del alive[number]
        else:
            continue  # made before the step
        renumbered.append((number + offset, size))
    return renumbered + [(number + offset, -1) for number in alive]
