"""Threads whose death is noticed: a process that goes on without one of them looks healthy and does nothing."""

import sys
import threading
import time
from collections.abc import Callable, Sequence

from tenfold.core import TenfoldError


class WatchedThread:
    """A daemon thread, started at once, that keeps what it failed of."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name, self._body = name, body
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as error:  # whatever it is, the main thread must hear of it
            self.failure = error

    def check(self) -> None:
        """Raise what the thread failed of: a TenfoldError as it is, anything else named in one."""
        if isinstance(self.failure, TenfoldError):
            raise self.failure
        if self.failure is not None:
            kind = type(self.failure).__name__
            raise TenfoldError(f"thread {self.name} failed ({kind}: {self.failure})") from self.failure

    @property
    def is_alive(self) -> bool:
        """Whether its body still runs."""
        return self._thread.is_alive()

    def join(self, patience: float | None = None) -> None:
        """Return when it has ended, or after `patience` seconds."""
        self._thread.join(patience)


def join_threads(threads: Sequence[WatchedThread], patience: float) -> None:
    """Wait until all have ended, at most `patience` seconds together.

    An interpreter that ends while a thread is inside a library may crash: what it comes back to is gone by then.
    Threads that are left after that are named on stderr.
    """
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    left = [thread.name for thread in threads if thread.is_alive]
    if left:
        print(f"warning: still inside a call, and not waited for: {', '.join(left)}", file=sys.stderr, flush=True)
