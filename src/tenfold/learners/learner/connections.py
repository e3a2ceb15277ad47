"""The threads that talk to the syncer during one incarnation, and what they share."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any, Self

from tenfold.learners.learner.coordination import HeartbeatSender, LearnerStatus, LeaseQueue
from tenfold.learners.learner.exchange import Downlink, Uplink
from tenfold.learners.learner.joining import JoinedIncarnation, LearnerSite
from tenfold.learners.learner.replica import Replica
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Channels, Link, LinkMeasure, parse_address

SENT_AT_A_TIME = 4  # contributions to each shard: on a long line each takes several round trips


class Connections(AbstractContextManager["Connections"]):
    """The threads that talk to the syncer during one replica. Only the first rank takes samples and tells how it is."""

    def __init__(
        self, site: LearnerSite, joined: JoinedIncarnation, batch: int, status: LearnerStatus, *, is_first: bool
    ) -> None:
        """`batch`: samples of a step; `status`: what heartbeats say, written by the training thread."""
        replica = joined.replica

        shared = {address: Channels(parse_address(address)[0], site.security) for address in joined.shards}

        def link() -> Link:
            return Link(site.syncer, site.security, channels=shared[site.syncer])

        def links(measure: LinkMeasure) -> list[Link]:
            return [Link(each, site.security, measure=measure, channels=shared[each]) for each in joined.shards]

        at_a_time = min(SENT_AT_A_TIME, len(replica.fragments))
        part = (replica.rank, replica.ranks)
        self._stack = ExitStack()
        up, down = LinkMeasure(), LinkMeasure()
        self.uplink: Uplink = self._closing(Uplink(list(zip(*(links(up) for _ in range(at_a_time)), strict=True))))
        self.downlink: Downlink = self._closing(
            Downlink(links(down), replica.number, joined.start, replica.precision, part)
        )
        self.heartbeat: HeartbeatSender | None = None
        self.leases: LeaseQueue | None = None
        if is_first:
            say = partial(print, f"{site.name}:", file=sys.stderr, flush=True)
            self.heartbeat = self._closing(HeartbeatSender(link(), replica.number, status, up, down, say))
            first = replica.inner_steps * batch
            self.leases = self._closing(LeaseQueue(link(), replica.number, batch, first))

    def _closing(self, thing: Any) -> Any:
        self._stack.callback(thing.close)
        return thing

    @property
    def is_finished(self) -> bool:
        """Whether the syncer has said that the run is finished."""
        return bool(self.heartbeat and self.heartbeat.finished) or bool(self.leases and self.leases.finished)

    @property
    def why_ended(self) -> str | None:
        """Why the syncer has ended this incarnation; None: it goes on. Raises TenfoldError if a thread has failed."""
        for thread in self.threads:
            thread.check()
        found = [self.uplink.refused, self.downlink.refused]
        found += [self.heartbeat.ended if self.heartbeat else None, self.leases.refused if self.leases else None]
        return next((reason for reason in found if reason), None)

    @property
    def threads(self) -> list[WatchedThread]:
        """All that talk to the syncer."""
        of_first = [*self.heartbeat.threads, *self.leases.threads] if self.heartbeat and self.leases else []
        return [*self.uplink.threads, *self.downlink.threads, *of_first]

    def send(self, replica: Replica, indices: Sequence[int]) -> None:
        """Contribute those fragments of which no contribution is under way. For a learner of one rank."""
        for acknowledged in self.uplink.take_acknowledged():
            replica.acknowledged(acknowledged)
        for index in set(indices) - self.uplink.busy():
            self.uplink.send(*replica.contribute(index))

    def merge_arrived(self, replica: Replica) -> None:
        """Go on from every version that has come. For a learner of one rank."""
        for index, arrived in self.downlink.ready().items():
            replica.merge(index, arrived.version, arrived.values, arrived.contained, arrived.published)
            self.downlink.taken(index, arrived)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
