"""Checks of a contribution's values before it may be merged."""

import statistics
from collections import defaultdict, deque

import torch
from torch import Tensor

REMEMBERED = 32
ENOUGH = 8  # norms from which the usual size of a contribution is known


class NormGuard:
    """The recent distribution of root-mean-square movements, for each fragment (and part of it).

    What stands for more tokens may have moved further in proportion: after a syncer was away for a minute everybody
    sends the movement of a minute.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._recent: dict[tuple[int, int, int], deque[tuple[float, int]]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED)
        )

    def note(self, part: tuple[int, int, int], norm: float, tokens: int) -> None:
        """Remember the norm of an accepted contribution; `part` is (fragment, rank, ranks)."""
        self._recent[part].append((norm, tokens))

    def check(self, part: tuple[int, int, int], norm: float, tokens: int, weights_norm: float) -> str | None:
        """Why a norm is refused; None when it is usual. Before enough are known, a movement may be as large as the
        weights themselves times the limit.
        """
        recent = self._recent[part]
        if len(recent) < ENOUGH:
            usual, kind = max(weights_norm, 0.01), "the weights"
        else:
            longer = max(1.0, tokens / statistics.median(each for _, each in recent))
            usual, kind = longer * statistics.median(each for each, _ in recent), "recent contributions"
        if norm > self._limit * usual:
            return f"norm {norm:.3g} is more than {self._limit:g} times that of {kind}, {usual:.3g}"
        return None


def root_mean_square(vector: Tensor) -> float:
    """RMS of a float32 vector; inf or NaN when it is not finite. Sums in float64, so that huge values stay finite."""
    return float(vector.double().square().mean().sqrt()) if vector.numel() else 0.0


def not_finite(vector: Tensor) -> str | None:
    """Why a vector is refused: how many of its values are NaN or infinite."""
    bad = int((~torch.isfinite(vector)).sum())
    return f"{bad} of {vector.numel()} values are NaN or infinite" if bad else None
