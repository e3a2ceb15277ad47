"""SIGINT and SIGTERM ask the loop to stop after the step in hand; a second one stops at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """Set by the signal handler, read by the loop."""

    signal_name: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether somebody asked to stop."""
        return self.signal_name is not None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """While inside, SIGINT and SIGTERM set the request; the old handlers come back at the end.

    A request that came too late to be served inside (during the last step) is raised again outside.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        earlier = before[signal.Signals(number)]
        if request.is_set and callable(earlier):
            earlier(number, frame)
        request.signal_name = signal.Signals(number).name

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.signal_name is not None:
        signal.raise_signal(signal.Signals[request.signal_name])
