"""Resident memory of this process: now, and at its highest."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Bytes of physical memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most it has held since it began, or since `forget_peak`.

    Linux keeps this figure for the program that runs, in VmHWM; getrusage's also counts the process that started it.
    """
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def forget_peak() -> None:
    """Let the peak begin anew, where the kernel can (Linux: proc(5), clear_refs)."""
    with suppress(OSError):
        RESET.write_text("5")
