"""Progress of a search, with the time that is left at most."""

import sys
import time
from typing import TextIO

from tenfold.planner.calibration.calibrated import Told

EVERY_SECONDS = 0.5


def progress_to(stream: TextIO = sys.stderr) -> Told:
    """A callback that keeps one line of `stream` up to date."""
    begin = time.monotonic()
    shown = begin

    def told(done: int, most: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < EVERY_SECONDS:
            return
        shown = now
        left = (now - begin) / done * (most - done)
        stream.write(f"\rsearch {done} of at most {most}, at most {left:.0f} s left ")
        stream.flush()

    return told
