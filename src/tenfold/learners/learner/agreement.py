"""What the ranks of one learner agree on at every step, so that all take the same one.

The first rank decides; any rank may object. Every method is a collective: all ranks call it in the same order, from the
training thread alone.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.distributed as dist
from torch import Tensor

from tenfold.learners.learner.replica import InnerStep
from tenfold.train.ranks import Ranks


class NextAction(IntEnum):
    """What comes next. Where ranks want different things, the later one in this list is done."""

    STEP = 0
    IDLE = 1
    """There may be samples soon."""
    FLUSH = 2
    """There are no samples now: send what is left."""
    ENDED = 3
    FINISHED = 4
    STOP = 5


@dataclass(frozen=True)
class Agreement:
    """Trivial for one rank; two small all-reduces a step for several."""

    ranks: Ranks

    def next(self, what: NextAction, step: InnerStep | None = None) -> tuple[NextAction, InnerStep | None]:
        """What the first rank wants, unless another one wants something later in the list. Only it has orders."""
        if self.ranks.world_size == 1:
            return what, step
        numbers = [int(what), *((step.first_sample, step.samples, step.position) if step else (0, 0, 0))]
        kind, first, samples, position = self._highest(numbers)
        return NextAction(kind), InnerStep(first, samples, position) if kind == NextAction.STEP else None

    def number(self, value: int) -> int:
        """The first rank's number."""
        if self.ranks.world_size == 1:
            return value
        message = torch.tensor([value], device=self.ranks.device)
        dist.broadcast(message, 0)
        return int(message.item())

    def text(self, value: str) -> str:
        """The first rank's text."""
        if self.ranks.world_size == 1:
            return value
        data = value.encode()
        message = torch.zeros(self.number(len(data)), dtype=torch.uint8, device=self.ranks.device)
        if self.ranks.is_first:
            message.copy_(torch.tensor(list(data), dtype=torch.uint8))
        if message.numel():
            dist.broadcast(message, 0)
        return bytes(message.tolist()).decode()

    def versions(self, mine: Mapping[int, int], count: int) -> list[int]:
        """Those of `count` fragments of which every rank has the same version here; a rank may lack some."""
        if self.ranks.world_size == 1:
            return sorted(mine)
        known = [mine.get(index, -1) for index in range(count)]
        highest = self._highest([*known, *(-version for version in known)])
        return [i for i in range(count) if 0 <= highest[i] == -highest[count + i]]

    def free(self, wanted: Collection[int], busy: Collection[int]) -> list[int]:
        """Those of the wanted fragments that no rank is still sending."""
        if self.ranks.world_size == 1:
            return [index for index in wanted if index not in busy]
        if not wanted:
            return []
        sending = self._highest([int(index in busy) for index in wanted])
        return [index for index, is_sending in zip(wanted, sending, strict=True) if not is_sending]

    def all(self, mine: bool) -> bool:
        """Whether it is so on every rank."""
        if self.ranks.world_size == 1:
            return mine
        return not self._highest([int(not mine)])[0]

    def gathered(self, rows: Tensor) -> Tensor:
        """Every rank's rows, one rank after another: [ranks, ...]."""
        if self.ranks.world_size == 1:
            return rows[None]
        mine = rows.to(self.ranks.device)
        everybody = [torch.empty_like(mine) for _ in range(self.ranks.world_size)]
        dist.all_gather(everybody, mine)
        return torch.stack(everybody).cpu()

    def _highest(self, numbers: list[int]) -> list[int]:
        message = torch.tensor(numbers, device=self.ranks.device)
        dist.all_reduce(message, dist.ReduceOp.MAX)
        found: list[int] = message.tolist()
        return found
