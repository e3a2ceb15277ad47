"""The outer optimizer: merged movements become the next version of a fragment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.config.learners import Precision
from tenfold.learners.quantise import decode, encode


@dataclass(frozen=True)
class FragmentState:
    """One version of a fragment and what the next one is made from; float32 vectors of the fragment's size.

    `values` is what every learner has, bit for bit. Versions are sent as rounded differences; `residual` is what
    rounding has left out so far, so that values + residual is the exact result.
    """

    version: int
    values: Tensor
    momentum: Tensor
    residual: Tensor

    @classmethod
    def first(cls, values: Tensor) -> "FragmentState":
        """Version 0: the initial weights."""
        return cls(0, values, torch.zeros_like(values), torch.zeros_like(values))


@dataclass(frozen=True)
class OuterOptimizer:
    """Nesterov momentum on the merged movement (DiLoCo, arXiv 2311.08105, algorithm 1)."""

    learning_rate: float
    momentum: float
    precision: Precision

    def step(self, state: FragmentState, movements: Sequence[tuple[float, Tensor]]) -> tuple[FragmentState, bytes]:
        """The next version from (weight, movement) in this order; and the encoded difference learners apply.

        A movement points where the learner went: it is the negative of DiLoCo's outer gradient.
        """
        merged = torch.zeros_like(state.values)
        for weight, movement in movements:
            merged.add_(movement, alpha=weight)
        momentum = self.momentum * state.momentum + merged
        exact = state.values + state.residual + self.learning_rate * (merged + self.momentum * momentum)
        difference = encode(exact - state.values, self.precision)
        values = apply_difference(state.values, difference, self.precision)
        return FragmentState(state.version + 1, values, momentum, exact - values), difference


def apply_difference(values: Tensor, difference: bytes | bytearray | memoryview, precision: Precision) -> Tensor:
    """The next version from the one before it and the difference, as the syncer and every learner compute it."""
    return values + decode(difference, values.numel(), precision)
