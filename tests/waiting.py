"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""Far longer than anything takes on a machine that others use: only what never comes fails by it."""


def until(is_so: Callable[[], bool]) -> None:
    """Fails the test when it does not come about."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
