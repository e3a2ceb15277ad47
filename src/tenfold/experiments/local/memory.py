"""Resident memory of a training process at its highest, by part, on the heap that glibc's malloc keeps.

torch asks the C library for each tensor with posix_memalign(64). glibc looks for room for the tensor and 96 bytes more,
and what it does not need of them stays beside the tensor as a gap that small objects move into: torch's own handles
of the tensors made next. While those live, the hole that a freed tensor leaves cannot join its neighbours and is too
small for the next tensor of the same size, so that a step needs up to half as much again as its tensors hold, and twice
as much with micro-batches. Written from the documented behaviour (mallopt(3), malloc_trim(3), "Malloc Internals" in the
glibc wiki): best fit, holes that touch are joined, tensors beyond a threshold are mapped one by one, and the threshold
follows the largest mapped one that was freed, up to 32 MiB.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import hypot

from tenfold.experiments.local.recorder import AllocationLog, StepTrace

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
ALIGNMENT, SMALLEST, HEADER, GRAIN = 64, 32, 8, 16
PAGE = 4096
TOP_PAD = 128 * 2**10
FIRST_THRESHOLD = 128 * 2**10
LARGEST_THRESHOLD = 32 * 2**20
NEIGHBOURS = 3
"""A gap is free again when the longest-lived of this many tensors made next is: chosen on the tuning configurations."""
Event = tuple[int, int]
"""(number of a tensor, its bytes): made; (number, -1): freed."""


@dataclass(frozen=True)
class LocalMemory:
    """Bytes at the peak. The parts sum to `total`."""

    weights: int
    gradients: int
    """Gradients that exist at the peak: the first backward pass begins without."""
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
    parts = _at_peak(trace.allocations)
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


def _at_peak(allocations: AllocationLog) -> Counter[str]:
    """Bytes of each part at the moment when tensors hold most."""
    sizes: dict[int, int] = {}
    now: Counter[str] = Counter()
    best: Counter[str] = Counter()
    held = most = 0
    for number, size in allocations.events:
        change = size if size >= 0 else -sizes[number]
        sizes.setdefault(number, size)
        now[PARTS[allocations.made_in[number]]] += change
        held += change
        if held > most:
            most, best = held, now.copy()
    return best


def _heap_peak(trace: StepTrace) -> int:
    heap = Heap()
    heap.replay(trace.allocations.events[: trace.built])
    step = trace.allocations.events[trace.built :]
    for number in range(STEPS):
        heap.replay(_as_step(step, (number + 1) * len(trace.allocations.made_in)))
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


class Heap:
    """The resident bytes of a heap that tensors are made in and freed from."""

    def __init__(self) -> None:
        self.peak = 0
        self._threshold, self._trim = FIRST_THRESHOLD, 2 * FIRST_THRESHOLD
        self._mapped_bytes = 0
        self._end = self._top = 0  # the heap is [0, end); nothing lies in [top, end)
        self._sizes: list[tuple[int, int]] = []  # free chunks, (size, start), smallest first
        self._starts: dict[int, int] = {}  # free chunks, start → size
        self._ends: dict[int, int] = {}  # free chunks, end → start
        self._where: dict[int, tuple[int, int]] = {}  # tensors: (start, size), start -1 where mapped
        self._gaps: dict[int, list[tuple[int, int]]] = defaultdict(list)  # number of a tensor → gaps taken as long

    def replay(self, events: Sequence[Event]) -> None:
        """Make and free tensors in this order."""
        keepers = _keepers(events)
        for number, size in events:
            if size < 0:
                self._free(*self._where.pop(number))
                for gap in self._gaps.pop(number, ()):
                    self._release(*gap)
            else:
                self._where[number] = self._make(size, self._gaps[keepers[number]])
                self.peak = max(self.peak, self._mapped_bytes + self._end)

    def _make(self, size: int, gaps: list[tuple[int, int]]) -> tuple[int, int]:
        needed = max(SMALLEST, _rounded(size + HEADER, GRAIN))
        room = needed + ALIGNMENT + SMALLEST
        start = self._from_holes(room)
        if start is None:
            if self._end - self._top < room + SMALLEST:
                if room >= self._threshold:
                    return self._map(room)
                self._extend(room)
            start, self._top = self._top, self._top + room
        aligned = _rounded(start + 2 * HEADER, ALIGNMENT) - 2 * HEADER
        aligned += ALIGNMENT if 0 < aligned - start < SMALLEST else 0
        if aligned > start:
            gaps.append((start, aligned - start))
        left = start + room - aligned - needed
        if left > SMALLEST:
            gaps.append((aligned + needed, left))
        else:
            needed += left
        return aligned, needed

    def _map(self, room: int) -> tuple[int, int]:
        size = _rounded(room + HEADER, PAGE)
        self._mapped_bytes += size
        return -1, size

    def _extend(self, room: int) -> None:
        self._end = _rounded(self._top + room + TOP_PAD + SMALLEST, PAGE)

    def _from_holes(self, room: int) -> int | None:
        """The smallest hole that is large enough, what is left of it staying a hole."""
        found = bisect_left(self._sizes, (room, -1))
        if found == len(self._sizes):
            return None
        size, start = self._sizes[found]
        self._take(start)
        if size - room >= SMALLEST:
            self._put(start + room, size - room)
        return start

    def _free(self, start: int, size: int) -> None:
        if start >= 0:
            self._release(start, size)
            return
        self._mapped_bytes -= size
        if self._threshold < size <= LARGEST_THRESHOLD:
            self._threshold, self._trim = size, 2 * size

    def _release(self, start: int, size: int) -> None:
        """A chunk becomes a hole, joined with the holes beside it, or part of the top."""
        if start in self._ends:
            before = self._ends[start]
            size += self._take(before)
            start = before
        if start + size in self._starts:
            size += self._take(start + size)
        if start + size < self._top:
            self._put(start, size)
            return
        self._top = start
        if self._end - self._top >= self._trim:
            self._end = _rounded(self._top + TOP_PAD + SMALLEST, PAGE)

    def _put(self, start: int, size: int) -> None:
        insort(self._sizes, (size, start))
        self._starts[start], self._ends[start + size] = size, start

    def _take(self, start: int) -> int:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._sizes[bisect_left(self._sizes, (size, start))]
        return size


def _keepers(events: Sequence[Event]) -> dict[int, int]:
    """Number of each tensor made → number of the tensor that keeps the gaps beside it."""
    freed = {number: place for place, (number, size) in enumerate(events) if size < 0}
    made = [number for number, size in events if size >= 0]
    after = (made[place + 1 : place + 1 + NEIGHBOURS] or [number] for place, number in enumerate(made))
    return {
        number: max(others, key=lambda other: freed.get(other, len(events)))
        for number, others in zip(made, after, strict=True)
    }


def _rounded(value: int, to: int) -> int:
    return -(-value // to) * to
