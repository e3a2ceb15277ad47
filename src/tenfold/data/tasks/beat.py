"""How far a task is, told by the task itself to whoever gave it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SECONDS_BETWEEN_BEATS = 0.5
Beat = Callable[[int], None]


def no_beat(_: int) -> None:
    """Tells nobody."""


class _Pulse:
    """Adds up bytes and passes the sum on now and then."""

    def __init__(self, beat: Beat) -> None:
        self._beat, self._bytes, self._last = beat, 0, time.monotonic()

    def add(self, size: int) -> None:
        """So many bytes more."""
        self._bytes += size
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_BEATS:
            self._last = now
            self._beat(self._bytes)


_pulse: ContextVar[_Pulse] = ContextVar("pulse")


@contextmanager
def beating(beat: Beat) -> Iterator[None]:
    """Within, `worked_off` is told to `beat`."""
    before = _pulse.set(_Pulse(beat))
    try:
        yield
    finally:
        _pulse.reset(before)


def worked_off(size: int) -> None:
    """Note that the task in hand has done with so many more bytes."""
    if (pulse := _pulse.get(None)) is not None:
        pulse.add(size)
