"""Contributions on their way to the syncer, in a thread of their own: training never waits for the link."""

import math
import queue
import threading

from tenfold.cluster.records import Contribution
from tenfold.cluster.wire import Link, Refused, Unreachable

RETRY_S = 0.2


class Uplink:
    """Sends in order, as long as it takes. One at a time of each fragment is under way."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queue: queue.SimpleQueue[tuple[Contribution, bytes] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: set[int] = set()
        self._acknowledged: list[Contribution] = []
        self._stopping = threading.Event()
        self.refused: str | None = None
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def send(self, contribution: Contribution, data: bytes) -> None:
        """Hand over and return."""
        with self._lock:
            self._under_way.add(contribution.fragment)
        self._queue.put((contribution, data))

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
        self._queue.put(None)
        self._link.close()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None and not self._stopping.is_set():
            contribution, data = item
            if not self._delivered(contribution, data):
                return
            with self._lock:
                self._under_way.discard(contribution.fragment)
                self._acknowledged.append(contribution)

    def _delivered(self, contribution: Contribution, data: bytes) -> bool:
        while not self._stopping.is_set():
            try:
                self._link.put(contribution.key, contribution.to_header(), data, patience=math.inf)
                return True
            except Refused as error:
                self.refused = str(error)
                return False
            except Unreachable:
                self._stopping.wait(RETRY_S)
        return False
