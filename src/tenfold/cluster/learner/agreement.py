"""What the ranks of one learner agree on at every step, so that all take the same one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.distributed as dist

from tenfold.cluster.learner.supply import Order
from tenfold.train.ranks import Ranks


class What(IntEnum):
    """What comes next."""

    STEP = 0
    IDLE = 1
    ENDED = 2
    FINISHED = 3
    STOP = 4


@dataclass(frozen=True)
class Agreement:
    """Trivial for one rank; one small broadcast and one small all-reduce a step for several."""

    ranks: Ranks

    def next(self, what: What, order: Order | None) -> tuple[What, Order | None]:
        """The first rank's decision."""
        if self.ranks.world_size == 1:
            return what, order
        numbers = [int(what), *((order.first_sample, order.samples, order.position) if order else (0, 0, 0))]
        message = torch.tensor(numbers, device=self.ranks.device)
        dist.broadcast(message, 0)
        kind, first, samples, position = message.tolist()
        return What(kind), Order(first, samples, position) if kind == What.STEP else None

    def number(self, value: int) -> int:
        """The first rank's number."""
        if self.ranks.world_size == 1:
            return value
        message = torch.tensor([value], device=self.ranks.device)
        dist.broadcast(message, 0)
        return int(message.item())

    def versions(self, ready: Mapping[int, int], count: int) -> list[int]:
        """Fragments of which the same version waits on every rank."""
        if self.ranks.world_size == 1:
            return sorted(ready)
        mine = torch.tensor([ready.get(index, -1) for index in range(count)], device=self.ranks.device)
        both = torch.stack([mine, -mine])
        dist.all_reduce(both, dist.ReduceOp.MIN)
        lowest, highest = both[0].tolist(), (-both[1]).tolist()
        return [i for i in range(count) if lowest[i] == highest[i] and lowest[i] >= 0]

    def free(self, wanted: Collection[int], busy: Collection[int]) -> list[int]:
        """Those of the wanted fragments that no rank is still sending."""
        if self.ranks.world_size == 1:
            return [index for index in wanted if index not in busy]
        if not wanted:
            return []
        mine = torch.tensor([int(index not in busy) for index in wanted], device=self.ranks.device)
        dist.all_reduce(mine, dist.ReduceOp.MIN)
        return [index for index, is_free in zip(wanted, mine.tolist(), strict=True) if is_free]

    def all(self, mine: bool) -> bool:
        """Whether it is so on every rank."""
        if self.ranks.world_size == 1:
            return mine
        message = torch.tensor([int(mine)], device=self.ranks.device)
        dist.all_reduce(message, dist.ReduceOp.MIN)
        return bool(message.item())
