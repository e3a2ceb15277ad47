"""What a learner asks the coordinator for and tells it, in threads; and what its ranks agree on.

Leases of samples are asked for ahead of time, so that a learner goes on while the syncer is away. Of several ranks the
first decides and any may object, so that all take the same step.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
import torch.distributed as dist
from torch import Tensor

from tenfold.learners.learner.replica import InnerStep, inner_steps_of
from tenfold.learners.messages import (
    LOSSES_AT_A_TIME,
    Heartbeat,
    HeartbeatReply,
    LeaseReply,
    LeaseRequest,
    LinkFigures,
    StepLoss,
)
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Link, LinkMeasure, Refused, Unreachable
from tenfold.train import Ranks

AHEAD_S = 60.0  # work kept in stock: how long a syncer may be away before anybody notices
RETRY_S = 0.2
HEARTBEAT_S = 0.25
SILENCE_S = 30.0  # without an answer, until that is said, and then between two times that it is said
HEARD_WITHIN_S = 5.0  # a heartbeat that is not answered within this is followed by a newer one


class LeaseQueue:
    """Keeps about a minute of inner steps in stock."""

    def __init__(self, link: Link, incarnation: int, batch: int, first_samples: int) -> None:
        """`first_samples`: what to ask for before the pace is known."""
        self._link, self._incarnation, self._batch = link, incarnation, batch
        self._stock: deque[InnerStep] = deque()
        self._wanted, self._received = first_samples, 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.refused: str | None = None
        self.finished = False
        self.is_exhausted = False
        """The last answer was that there is nothing to do now."""
        self.threads = [WatchedThread("leases", self._run)]

    def pace(self, seconds_per_step: float) -> None:
        """How fast this learner is: what it keeps in stock follows."""
        steps = max(1, round(AHEAD_S / max(seconds_per_step, 1e-4)))
        with self._changed:
            self._wanted = steps * self._batch
            self._changed.notify_all()

    def next(self, patience: float) -> InnerStep | None:
        """The next inner step; None when there is none within patience (seconds)."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._stock), patience)
            step = self._stock.popleft() if self._stock else None
            self._changed.notify_all()
        return step

    def close(self) -> None:
        """Ask for no more leases; those in stock are given back when the incarnation ends."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self.finished:
            with self._changed:
                self._changed.wait_for(lambda: self._backlog() < self._wanted or self._stopping.is_set(), 1.0)
                backlog, wanted = self._backlog(), self._wanted
            if backlog >= wanted or self._stopping.is_set():
                continue
            try:
                self._ask(wanted, backlog)
            except Refused as error:
                self.refused = str(error)
                return
            except Unreachable:
                self._stopping.wait(RETRY_S)

    def _backlog(self) -> int:
        return sum(step.samples for step in self._stock)

    def _ask(self, wanted: int, backlog: int) -> None:
        # Half of the stock at a time: a lease is never asked for long before it is needed.
        samples = max(self._batch, wanted // 2 // self._batch * self._batch)
        request = LeaseRequest(incarnation=self._incarnation, samples=samples, backlog=backlog, received=self._received)
        answer = self._link.ask(request, LeaseReply)
        self.finished = answer.finished
        if answer.lease is not None:
            with self._changed:
                self.is_exhausted = False
                self._received += 1
                self._stock.extend(inner_steps_of(answer.lease, self._batch))
                self._changed.notify_all()
        elif answer.wait is not None:
            with self._changed:
                self.is_exhausted = backlog == 0  # else others get their share first: ask again with half as much left
                self._changed.wait_for(
                    lambda: self._backlog() <= backlog // 2 or self._stopping.is_set(),
                    answer.wait if self.is_exhausted else None,
                )


@dataclass
class LearnerStatus:
    """What a learner says about itself: written by the training thread, read by the heartbeat thread."""

    step: int = 0
    waits: int = 0
    """How often there was nothing to train: to wait is no hang."""
    idle: bool = False
    flushed: bool = False
    tokens_per_second: float = 0.0
    longest_gap: float = 0.0
    """Longest time between the ends of two steps of this incarnation, in seconds; its first steps left out."""


class HeartbeatSender:
    """Sends status and losses until closed; says when the syncer has ended this incarnation or the run."""

    def __init__(
        self,
        link: Link,
        incarnation: int,
        status: LearnerStatus,
        up: LinkMeasure,
        down: LinkMeasure,
        say: Callable[[str], None],
    ) -> None:
        """`up` and `down`: of the links that carry fragments to the syncer and from it; `say` prints a line."""
        self._link, self._incarnation, self._status, self._up, self._down = link, incarnation, status, up, down
        self._say, self._heard_at = say, time.monotonic()
        self._said_at = self._heard_at
        self._losses: list[StepLoss] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.ended: str | None = None
        self.finished = False
        self.threads = [WatchedThread("heartbeat", self._run)]

    def loss(self, position: int, nats: float, tokens: int, size: float) -> None:
        """An inner step's summed nats at this position of the run."""
        with self._lock:
            self._losses.append(StepLoss(position, nats, tokens, size))

    def close(self) -> None:
        """Send no more heartbeats."""
        self._stopping.set()
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.wait(HEARTBEAT_S):
            try:
                self._send()
            except Refused as error:
                self.ended = str(error)
            except Unreachable as error:
                self._say_silence(error)
            if self.ended or self.finished:
                return

    def _say_silence(self, error: Unreachable) -> None:
        now = time.monotonic()
        if now - self._said_at >= SILENCE_S:
            self._said_at = now
            since = now - self._heard_at
            self._say(f"no answer from the syncer for {since:.0f} s ({error}); trains on what samples it has, asks on")

    def _send(self) -> None:
        status = replace(self._status)  # before the losses: who says that all is sent must have sent them
        with self._lock:
            losses, self._losses = self._losses[:LOSSES_AT_A_TIME], self._losses[LOSSES_AT_A_TIME:]
            told_all = not self._losses
        heartbeat = Heartbeat(
            incarnation=self._incarnation,
            step=status.step,
            waits=status.waits,
            idle=status.idle,
            flushed=status.flushed and told_all,
            tokens_per_second=status.tokens_per_second,
            longest_gap=status.longest_gap,
            losses=tuple(losses),
            link=LinkFigures(
                up_bytes_per_second=self._up.bandwidth,
                down_bytes_per_second=self._down.bandwidth,
                round_trip_seconds=self._link.measure.latency,
            ),
        )
        try:
            answer = self._link.ask(heartbeat, HeartbeatReply, timeout=HEARD_WITHIN_S, patience=HEARD_WITHIN_S)
        except Unreachable:
            with self._lock:
                self._losses = losses + self._losses
            raise
        if self._said_at > self._heard_at:
            self._say(f"the syncer answers again, after {time.monotonic() - self._heard_at:.0f} s")
        self._heard_at = self._said_at = time.monotonic()
        self.ended, self.finished = answer.ended, answer.finished


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
    """What the ranks of a learner agree on. Trivial for one rank; two small all-reduces a step for several.

    Every method is a collective: all ranks call it in the same order, from the training thread alone.
    """

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
