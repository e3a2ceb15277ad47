"""Threads whose death is noticed: a process that goes on without one of them looks healthy and does nothing."""

import threading
from collections.abc import Callable

from tenfold.core.errors import TenfoldError


class WatchedThread:
    """A daemon thread, started at once, that keeps what it failed of."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self._name, self._body = name, body
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
            raise TenfoldError(f"thread {self._name} failed ({kind}: {self.failure})") from self.failure

    def join(self, patience: float | None = None) -> None:
        """Until it ends, at most `patience` seconds."""
        self._thread.join(patience)
