"""Waiting for what other processes and threads do."""

import time
from collections.abc import Callable


def until(is_so: Callable[[], bool], patience: float = 10.0) -> None:
    """Fails the test when it does not come about within patience (seconds)."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
