"""A child's side of supervision: it ends with its supervisor, in whatever way that one ends."""

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def watch_parent(grace: float = 60.0) -> None:
    """End as on SIGTERM when the supervisor is gone; `grace` seconds later, if still there, as on SIGKILL.

    The supervisor holds the other end of this process's standard input and never writes to it. Call it first of all,
    from the main thread.
    """
    _wake_with_parent()
    threading.Thread(target=_stop_with_parent, args=(grace,), name="watch-parent", daemon=True).start()


def _wake_with_parent() -> None:
    """A process that stands still (SIGSTOP) when its supervisor dies would never notice: the kernel wakes it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGCONT), 0, 0, 0)


def _stop_with_parent(grace: float) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    leads = os.getpgrp() == os.getpid()
    if leads:
        os.killpg(0, signal.SIGCONT)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    if leads:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
