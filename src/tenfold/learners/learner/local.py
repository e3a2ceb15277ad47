"""What a learner knows of one fragment: where it is, where the global one was, and what of the way is sent.

Every inner step's movement is sent exactly once. At any time

    here = base + pending + unsent

with `base` the global version last merged, `pending` the movements that were sent and are in no merged version yet, and
`unsent` the rest: what was trained since, and what rounding left out of earlier movements. A new version replaces base
and drops from pending what it contains; unsent is kept, so nothing trained while waiting is lost (Streaming DiLoCo's
overlap, arXiv 2501.18512, section 3.2, without its mixing factor).
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from tenfold.config.learners import Precision
from tenfold.learners.fragments import Fragment
from tenfold.learners.quantise import decode, encode


class LocalFragment:
    """One fragment, or this rank's part of it, at a learner."""

    def __init__(self, fragment: Fragment, parts: Sequence[Tensor], precision: Precision) -> None:
        """`parts`: the memory of its parameters, in the fragment's order. Begins at what they hold, as version 0."""
        self.fragment, self._parts, self._precision = fragment, parts, precision
        self.version, self.joined_version, self.base = 0, 0, self.here()
        self.sequence = 0
        self._pending: dict[int, Tensor] = {}

    def here(self) -> Tensor:
        """The parameters as they are: float32, one vector."""
        return torch.cat([part.reshape(-1) for part in self._parts]).float()

    def adopt(self, version: int, values: Tensor) -> None:
        """Be at a global version, and owe nothing."""
        self.version = self.joined_version = version
        self.base, self._pending = values.to(self.base.device), {}
        self._write(self.base)

    def contribute(self) -> bytes:
        """The unsent movement, encoded; from now on it is pending under the present `sequence`."""
        unsent = self.here() - self.base - self._sum_pending()
        data = encode(unsent, self._precision)
        self._pending[self.sequence] = decode(data, unsent.numel(), self._precision).to(unsent.device)
        self.sequence += 1
        return data

    def merge(self, version: int, values: Tensor, contained: Collection[int]) -> None:
        """Go on from a newer global version that contains these of the sequences sent."""
        unsent = self.here() - self.base - self._sum_pending()
        self._pending = {sequence: sent for sequence, sent in self._pending.items() if sequence not in contained}
        self.version, self.base = version, values.to(self.base.device)
        self._write(self.base + self._sum_pending() + unsent)

    @property
    def is_finite(self) -> bool:
        """Whether every parameter is a number."""
        return all(bool(torch.isfinite(part).all()) for part in self._parts)

    @property
    def awaits_merge(self) -> bool:
        """Whether something sent is in no version merged here."""
        return bool(self._pending)

    def _sum_pending(self) -> Tensor:
        total = torch.zeros_like(self.base)
        for sequence in sorted(self._pending):
            total += self._pending[sequence]
        return total

    def _write(self, values: Tensor) -> None:
        with torch.no_grad():
            taken = 0
            for part in self._parts:
                part.copy_(values[taken : taken + part.numel()].view_as(part))
                taken += part.numel()
