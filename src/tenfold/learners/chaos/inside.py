"""A learner's side of chaos: faults that only the process itself can commit, asked for by signals."""

import os
import signal
import time
from dataclasses import dataclass
from types import FrameType

ENVIRONMENT = "TENFOLD_CHAOS"
HANG = signal.SIGUSR1
NAN = signal.SIGUSR2


@dataclass
class InjectedFaults:
    """Set by the signal handler, read and cleared by the loop."""

    make_nan: bool = False


def allow_faults_from_signals(state: InjectedFaults) -> bool:
    """Where the environment says TENFOLD_CHAOS=1, and nowhere else, listen to the signals; whether it does.

    HANG: the main thread sleeps for ever, as in a collective that never returns; other threads go on, so that the
    process looks healthy from outside. NAN: `state.make_nan` becomes true. Call it from the main thread.
    """
    if os.environ.get(ENVIRONMENT) != "1":
        return False

    def make_nan(number: int, frame: FrameType | None) -> None:
        state.make_nan = True

    signal.signal(HANG, _hang)
    signal.signal(NAN, make_nan)
    return True


def _hang(number: int, frame: FrameType | None) -> None:
    while True:
        time.sleep(3600)
