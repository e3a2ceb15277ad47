"""Contributions on their way to the syncer, in threads of their own: training never waits for the link."""

import math
import queue
import threading
from collections.abc import Sequence
from functools import partial

from tenfold.learners.fragments import shard_of
from tenfold.learners.records import Contribution
from tenfold.learners.watched import Watched
from tenfold.learners.wire import Link, Refused, Unreachable

RETRY_S = 0.2


class Uplink:
    """Sends to each shard, as long as it takes. One at a time of each fragment is under way, several fragments are."""

    def __init__(self, links: Sequence[Sequence[Link]]) -> None:
        """`links`: those to each shard of the syncer, each with a thread that sends; they are closed with this."""
        self._links = links
        self._queues: list[queue.SimpleQueue[tuple[Contribution, bytes] | None]] = [queue.SimpleQueue() for _ in links]
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        self._acknowledged: list[Contribution] = []
        self._stopping = threading.Event()
        self.refused: str | None = None
        self.threads = [
            Watched(f"uplink-{shard}-{number}", partial(self._run, shard, link))
            for shard, of_shard in enumerate(links)
            for number, link in enumerate(of_shard)
        ]

    def send(self, contribution: Contribution, data: bytes) -> None:
        """Hand over and return."""
        with self._lock:
            self._under_way.add(contribution.fragment)
        self._queues[shard_of(contribution.fragment, len(self._links))].put((contribution, data))

    def busy(self) -> set[int]:
        """Fragments of which a contribution is under way."""
        with self._lock:
            return set(self._under_way)

    @property
    def is_empty(self) -> bool:
        """Whether everything sent is acknowledged."""
        with self._lock:
            return not self._under_way

    def take_acknowledged(self) -> list[Contribution]:
        """Those the syncer has put on disk since the last call."""
        with self._lock:
            taken, self._acknowledged = self._acknowledged, []
        return taken

    def close(self) -> None:
        """Give up what is not sent."""
        self._stopping.set()
        for waiting, of_shard in zip(self._queues, self._links, strict=True):
            for link in of_shard:
                waiting.put(None)
                link.close()

    def _run(self, shard: int, link: Link) -> None:
        while (item := self._queues[shard].get()) is not None and not self._stopping.is_set():
            contribution, data = item
            if not self._delivered(link, contribution, data):
                return
            with self._lock:
                self._under_way.discard(contribution.fragment)
                self._acknowledged.append(contribution)

    def _delivered(self, link: Link, contribution: Contribution, data: bytes) -> bool:
        while not self._stopping.is_set():
            try:
                link.put(contribution.key, contribution.to_header(), data, patience=math.inf)
                return True
            except Refused as error:
                self.refused = str(error)
                return False
            except Unreachable:
                self._stopping.wait(RETRY_S)
        return False
