"""The feed: messages numbered in order and kept for a while, so that whoever was cut off goes on where it stopped."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sse_starlette import ServerSentEvent

from tenfold.monitor.page.source import News

MOST_KEPT_BYTES = 4_000_000


@dataclass(frozen=True)
class _Numbered:
    number: int
    kind: str
    text: str


class Feed:
    """What was published since the server began. Used in one event loop.

    An id is `EPOCH-NUMBER`; the epoch tells one life of the server from another.
    """

    def __init__(self) -> None:
        self._epoch, self._number = secrets.token_hex(4), 0
        self._kept: deque[_Numbered] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._closed = False

    @property
    def cursor(self) -> str:
        """Id of the newest message: whoever has seen everything up to now goes on from here."""
        return f"{self._epoch}-{self._number}"

    def publish(self, messages: Sequence[News]) -> None:
        """Number the messages and wake up whoever follows."""
        for message in messages:
            self._number += 1
            text = json.dumps(message.data, separators=(",", ":"), allow_nan=False, default=str)
            self._kept.append(_Numbered(self._number, message.kind, text))
            self._bytes += len(text)
        while self._bytes > MOST_KEPT_BYTES:
            self._bytes -= len(self._kept.popleft().text)
        if messages:
            self._wake()

    def close(self) -> None:
        """End every `follow`."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, cursor: str) -> AsyncIterator[ServerSentEvent]:
        """Everything after `cursor`, for ever. Begins with `reset` where that is too long ago, or of another life."""
        seen = self._after(cursor)
        if seen is None:
            seen = self._number
            yield ServerSentEvent("{}", event="reset", id=self.cursor)
        while not self._closed:
            news = self._news
            for message in [each for each in self._kept if each.number > seen]:
                seen = message.number
                yield ServerSentEvent(message.text, event=message.kind, id=f"{self._epoch}-{message.number}")
            if seen == self._number:
                await news.wait()

    def _after(self, cursor: str) -> int | None:
        """The number in a cursor; None where the message after it is not kept any more."""
        epoch, _, number = cursor.partition("-")
        if epoch != self._epoch or not number.isdecimal() or int(number) > self._number:
            return None
        oldest = self._kept[0].number if self._kept else self._number + 1
        return int(number) if int(number) >= oldest - 1 else None
