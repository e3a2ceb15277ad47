"""Pseudo-gradients on their way to the syncer and new versions on their way back, in threads: training never waits."""

import math
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tenfold.config import Precision
from tenfold.core import TenfoldError
from tenfold.learners.messages import (
    Contribution,
    DifferencesHeader,
    FragmentHeader,
    NewsReply,
    NewsRequest,
    Published,
    VersionNews,
    parse,
)
from tenfold.learners.outer import KEPT_DIFFERENCES, apply_difference, digest_of_values, shard_of
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Link, Refused, Unreachable

POLL_S = 1.0  # how long a shard keeps the question for news when it has none
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
            WatchedThread(f"uplink-{shard}-{number}", partial(self._run, shard, link))
            for shard, of_shard in enumerate(links)
            for number, link in enumerate(of_shard)
        ]

    def send(self, contribution: Contribution, data: bytes) -> None:
        """Hand a contribution over to a sending thread, and return."""
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
                link.put(contribution.key, contribution.to_json(), data, patience=math.inf)
                return True
            except Refused as error:
                self.refused = str(error)
                return False
            except Unreachable:
                self._stopping.wait(RETRY_S)
        return False


@dataclass(frozen=True)
class ArrivedVersion:
    """A version that can be merged: its values (this rank's part), and which of our contributions it contains."""

    version: int
    values: Tensor
    contained: frozenset[int]
    published: Published


Known = dict[int, tuple[int, Tensor]]


class Downlink:
    """Follows each shard's versions: by rounded differences where it can, by whole fragments where it must."""

    def __init__(
        self,
        links: Sequence[Link],
        incarnation: int,
        start: Mapping[int, tuple[int, Tensor]],
        precision: Precision,
        part: tuple[int, int],
    ) -> None:
        """`links`: to each shard of the syncer; they are closed with this.

        `start`: version and values of each fragment now; `part`: (rank, ranks).
        """
        self._links, self._incarnation, self._precision, self._part = links, incarnation, precision, part
        self._ready: dict[int, ArrivedVersion] = {}
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.refused: str | None = None
        self.threads: list[WatchedThread] = []
        for number, link in enumerate(links):
            known = {index: start[index] for index in start if shard_of(index, len(links)) == number}
            self.threads.append(WatchedThread(f"downlink-{number}", partial(self._run, link, known)))

    def ready(self) -> dict[int, ArrivedVersion]:
        """The newest version of each fragment that waits here to be merged."""
        with self._changed:
            return dict(self._ready)

    def taken(self, index: int, arrived: ArrivedVersion) -> None:
        """It is merged; a newer one that came meanwhile waits on."""
        with self._changed:
            if self._ready.get(index) is arrived:
                del self._ready[index]

    def wait(self, patience: float) -> None:
        """Return when something waits to be merged, or when patience (seconds) is used up."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._ready), patience)

    def close(self) -> None:
        """Follow the versions no more."""
        self._stopping.set()
        for link in self._links:
            link.close()

    def _run(self, link: Link, known: Known) -> None:
        while not self._stopping.is_set():
            try:
                self._fetch_news(link, known)
            except Refused as error:
                self.refused = str(error)
                return
            except TenfoldError:
                self._stopping.wait(RETRY_S)

    def _fetch_news(self, link: Link, known: Known) -> None:
        versions = {index: version for index, (version, _) in known.items()}
        for index, first in self._news(link, versions, POLL_S).items():
            news = first
            known[index] = self._follow(link, index, news.version, *known[index])
            while known[index][0] != news.version:  # a still newer one was fetched whole: ask what that contains
                before = versions | {index: known[index][0] - 1}
                news = self._news(link, before, 0.0)[index]
                known[index] = self._follow(link, index, news.version, *known[index])
            self._offer(index, ArrivedVersion(*known[index], frozenset(news.merged), news.published))

    def _news(self, link: Link, known: Mapping[int, int], patience: float) -> Mapping[int, VersionNews]:
        """Fragments that have a newer version: which, and which of our contributions are in it."""
        request = NewsRequest(incarnation=self._incarnation, known=dict(known), patience=patience)
        return link.ask(request, NewsReply, timeout=patience + 5.0).versions

    def _follow(self, link: Link, index: int, version: int, at: int, values: Tensor) -> tuple[int, Tensor]:
        if at == version:
            return at, values
        try:
            if self._part == (0, 1) and version - at <= KEPT_DIFFERENCES // 2:
                header, data = link.get(f"differences/{index}/{at + 1}/{version}")
                size = len(data) // (version - at)
                for start in range(0, len(data), size):
                    values = apply_difference(values, data[start : start + size], self._precision)
                if digest_of_values(values) == parse(DifferencesHeader, header, "differences").digest:
                    return version, values
        except Refused:
            pass  # not kept any more
        return fetch_fragment(link, index, self._part)

    def _offer(self, index: int, arrived: ArrivedVersion) -> None:
        with self._changed:
            self._ready[index] = arrived
            self._changed.notify_all()


def fetch_fragment(link: Link, index: int, part: tuple[int, int]) -> tuple[int, Tensor]:
    """The newest version of a fragment, or of a rank's part of it. Raises TenfoldError when it is not what was sent."""
    found, data = link.get(f"fragment/{index}/{part[0]}/{part[1]}")
    header = parse(FragmentHeader, found, f"fragment {index}")
    values = torch.frombuffer(data, dtype=torch.float32) if len(data) else torch.empty(0)
    if digest_of_values(values) != header.digest:
        raise TenfoldError(f"fragment {index}: not the values that were published")
    return header.version, values


def fetch_all(links: Sequence[Link], fragments: Sequence[int], part: tuple[int, int]) -> Known:
    """Every fragment's newest version, from its shard of the syncer."""
    return {index: fetch_fragment(links[shard_of(index, len(links))], index, part) for index in fragments}
