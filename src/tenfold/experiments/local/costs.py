"""Seconds of one operation as a function of its sizes, fitted for every kind of operation.

A matrix product of [m, k] · [k, n] takes  c₀ + c₁·g + c₂·g·m·n·k + c₃·g·m·n + c₄·g·m·k + c₅·g·k·n  for a batch of g:
starting it, multiplying, and carrying each of the three matrices, so that efficiency falls off smoothly for small and
thin ones. All else takes  c₀ + c₁·tensors + c₂·elements + c₃·(elements beyond a core's cache). Coefficients are not
negative. Results of 32 MiB and more the C library asks the kernel for anew each time; what filling these pages costs
is one more figure, common to all.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from tenfold.experiments.local.operation import Operation

Array = NDArray[np.float64]

CACHED = 2**18
"""Elements, of 4 bytes: 1 MiB, about the second-level cache of a core."""
MAPPED = 2**23
"""Elements: 32 MiB, the largest mmap threshold of glibc's malloc (mallopt(3), M_MMAP_THRESHOLD)."""
ANY = "any"
FEWEST = 3
"""Different sizes of a kind that make a fit of its own."""


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
