"""One rung and seed trained without and with a change, and how comparisons are grouped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.core.errors import InputError
from tenfold.scaling.table import FloatArray, IntArray

LEAST_GROUPS = 3  # a line through the trunks' means leaves no degree of freedom below that
NUMBERS = ("parameters", "tokens", "compute", "reference_loss", "changed_compute", "changed_loss")


@dataclass(frozen=True)
class Comparison:
    """Two runs that differ in the change alone: same rung, seed and data order.

    `rung` is one N and D, `trunk` the run whose cool-downs give several D (one size). N, D and the compute in FLOP are
    counted as the reference law's table counts them; losses are in its unit.
    """

    rung: str
    trunk: str
    seed: int
    parameters: float
    tokens: float
    compute: float
    reference_loss: float
    changed_compute: float
    changed_loss: float


def check_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Raises InputError, naming rung and seed, for a number that is none, a comparison given twice, or too few."""
    seen = set()
    for comparison in comparisons:
        for name in NUMBERS:
            value = getattr(comparison, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{_called(comparison)}: {name} = {value}: must be a finite number above 0")
        if (comparison.rung, comparison.seed) in seen:
            raise InputError(f"{_called(comparison)}: given twice; each rung and seed is compared once")
        seen.add((comparison.rung, comparison.seed))
    groups = {(comparison.trunk, comparison.seed) for comparison in comparisons}
    trunks = {trunk for trunk, _ in groups}
    if len(groups) < LEAST_GROUPS or len(trunks) < 2:
        raise InputError(
            f"{len(trunks)} sizes and {len(groups)} trunks (size and seed) compared: "
            f"a trend and its noise need at least 2 sizes and {LEAST_GROUPS} trunks"
        )


def _called(comparison: Comparison) -> str:
    return f"rung {comparison.rung} seed {comparison.seed}"


def groups_of(comparisons: Sequence[Comparison]) -> IntArray:
    """Number of the (trunk, seed) each comparison belongs to, shape (n,), counted from 0 without gaps."""
    order: dict[tuple[str, int], int] = {}
    return np.array([order.setdefault((c.trunk, c.seed), len(order)) for c in comparisons], dtype=np.int64)


def column(comparisons: Sequence[Comparison], name: str) -> FloatArray:
    """Natural logarithm of one of NUMBERS, shape (n,)."""
    return np.log(np.array([getattr(comparison, name) for comparison in comparisons], dtype=np.float64))
