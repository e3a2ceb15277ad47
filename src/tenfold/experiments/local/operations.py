"""One operation of a step as far as its time depends on it, and the seconds it takes as a function of its sizes.

A matrix product of [m, k] · [k, n] takes  c₀ + c₁·g + c₂·g·m·n·k + c₃·g·m·n + c₄·g·m·k + c₅·g·k·n  for a batch of g:
starting it, multiplying, and carrying each of the three matrices, so that efficiency falls off smoothly for small and
thin ones. All else takes  c₀ + c₁·tensors + c₂·elements + c₃·(elements beyond a core's cache). Coefficients are not
negative and are fitted for every kind of operation. Results of 32 MiB and more the C library asks the kernel for anew
each time; what filling these pages costs is one more figure, common to all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}
"""Matrix products → which argument is the first factor."""
BY_RESULT = frozenset({"embedding"})  # reads a few rows of a large table
BY_INDEX = frozenset({"gather", "scatter_add_"})  # touch one element of each row
Array = NDArray[np.float64]
CACHED = 2**18
"""Elements, of 4 bytes: 1 MiB, about the second-level cache of a core."""
MAPPED = 2**23
"""Elements: 32 MiB, the largest mmap threshold of glibc's malloc (mallopt(3), M_MMAP_THRESHOLD)."""
ANY = "any"
FEWEST = 3
"""Different sizes of a kind that make a fit of its own."""


class Place(NamedTuple):
    """Phase of the step (forward, backward, update) and part of the model."""

    phase: str
    part: str


class Operation(NamedTuple):
    """`kind` names the function and how its operands lie in memory.

    `sizes` is (batch, m, n, k) of a matrix product [m, k] · [k, n], (elements, tensors) of all else, () of a view.
    """

    kind: str
    sizes: tuple[int, ...]
    place: Place

    @property
    def group(self) -> str:
        """products, elementwise or views."""
        return {4: "products", 2: "elementwise", 0: "views"}[len(self.sizes)]

    @property
    def in_place(self) -> bool:
        """Whether it writes into a tensor that it was given."""
        return self.kind.split(" ", 1)[0].endswith("_")


def kind_and_sizes(func: Any, args: Sequence[Any], result: Any) -> tuple[str, tuple[int, ...]]:
    """Kind and sizes of calling the torch operation `func` on `args`."""
    name = func._schema.name.removeprefix("aten::")
    if name in FACTORS:
        first = FACTORS[name]
        return _product(name, args[first], args[first + 1])
    if any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns):
        return "view", ()
    return _elementwise(name, args, result)


def _product(name: str, left: Tensor, right: Tensor) -> tuple[str, tuple[int, ...]]:
    batch = left.size(0) if left.dim() == 3 else 1
    sizes = (batch, left.size(-2), right.size(-1), left.size(-1))
    return f"{name} {_order(left)}{_order(right)}", sizes


def _order(matrix: Tensor) -> str:
    """n: rows lie one after another; t: columns do, as in a transposed view."""
    return "n" if matrix.stride(-1) == 1 else "t"


def _elementwise(name: str, args: Sequence[Any], result: Any) -> tuple[str, tuple[int, ...]]:
    lists = [a for a in args if isinstance(a, list | tuple) and a and isinstance(a[0], Tensor)]
    if lists and name != "cat" and name != "stack":
        return name, (sum(tensor.numel() for tensor in lists[0]), len(lists[0]))
    given = [a for a in args if isinstance(a, Tensor)] + [tensor for each in lists for tensor in each]
    if name in BY_INDEX:
        return name, (args[2].numel(), 1)
    made = result if isinstance(result, Tensor) else None
    if name in BY_RESULT and made is not None:
        return name, (made.numel(), 1)
    elements = max([tensor.numel() for tensor in [*given, *([] if made is None else [made])]], default=0)
    large = [tensor for tensor in given if tensor.numel() == elements]
    lie = "" if all(tensor.is_contiguous() for tensor in large) else " strided"
    return f"{name} {len(large)}{lie}", (elements, 1)


@dataclass(frozen=True)
class Costs:
    """Coefficients by kind, those of `any` of a group for kinds never seen; seconds for each freshly mapped element."""

    by_kind: Mapping[str, tuple[float, ...]]
    fresh: float

    def seconds(self, operation: Operation) -> float:
        """Forecast of one operation."""
        found = self.by_kind.get(operation.kind) or self.by_kind[f"{ANY} {operation.group}"]
        known = sum(c * f for c, f in zip(found, features(operation.sizes), strict=True))
        return known + self.fresh * fresh_elements(operation)

    def starting(self, operation: Operation) -> float:
        """The part of it that does not depend on the sizes."""
        return (self.by_kind.get(operation.kind) or self.by_kind[f"{ANY} {operation.group}"])[0]


def features(sizes: Sequence[int]) -> tuple[float, ...]:
    """What the coefficients are multiplied with."""
    if len(sizes) == 4:
        g, m, n, k = sizes
        return (1.0, g, float(g) * m * n * k, float(g) * m * n, float(g) * m * k, float(g) * k * n)
    if len(sizes) == 2:
        elements, tensors = sizes
        return (1.0, tensors, elements, max(0, elements - CACHED))
    return (1.0,)


def fresh_elements(operation: Operation) -> int:
    """Elements of the result that come in pages never touched."""
    if operation.in_place or not operation.sizes:
        return 0
    made = operation.sizes[0] * (operation.sizes[1] * operation.sizes[2] if len(operation.sizes) == 4 else 1)
    return made if made >= MAPPED else 0


def fit_costs(timed: Iterable[tuple[Operation, float]]) -> Costs:
    """Fit every kind to operations with their seconds."""
    table = list(timed)
    fresh = _fresh(table)
    kinds: dict[str, list[tuple[tuple[int, ...], float]]] = defaultdict(list)
    for operation, seconds in table:
        row = (operation.sizes, max(seconds - fresh * fresh_elements(operation), 0.1 * seconds))
        kinds[f"{ANY} {operation.group}"].append(row)
        kinds[operation.kind].append(row)
    enough = {kind: rows for kind, rows in kinds.items() if _is_enough(kind, rows)}
    return Costs({kind: _fit(rows) for kind, rows in enough.items()}, fresh)


def _is_enough(kind: str, rows: Sequence[tuple[tuple[int, ...], float]]) -> bool:
    return kind.startswith(ANY) or rows[0][0] == () or len({sizes for sizes, _ in rows}) >= FEWEST


def _fresh(table: Sequence[tuple[Operation, float]]) -> float:
    """Seconds for each element beyond what smaller operations of the same kind take for one."""
    usual: dict[str, list[float]] = defaultdict(list)
    for operation, seconds in table:
        if len(operation.sizes) == 2 and CACHED <= operation.sizes[0] < MAPPED:
            usual[operation.kind].append(seconds / operation.sizes[0])
    above = [
        seconds / operation.sizes[0] - float(np.median(usual[operation.kind]))
        for operation, seconds in table
        if len(operation.sizes) == 2 and fresh_elements(operation) and operation.kind in usual
    ]
    return max(0.0, float(np.mean(above))) if above else 0.0


def _fit(rows: Sequence[tuple[tuple[int, ...], float]]) -> tuple[float, ...]:
    """Least squares with the error of each time weighed by 1 / √time, which keeps sums as they are."""
    merged: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for sizes, seconds in rows:
        merged[sizes].append(seconds)
    matrix = np.array([features(sizes) for sizes in merged])
    means = np.array([np.mean(times) for times in merged.values()])
    weight = np.sqrt(np.array([len(times) for times in merged.values()]) / means)
    scale = matrix.max(axis=0) + np.finfo(float).tiny
    solution, _ = nnls(matrix / scale * weight[:, None], means * weight)
    return tuple((solution / scale).tolist())
