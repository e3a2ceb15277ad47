"""What probes of a machine's health cost: seconds of one round on the clock and of the cores, and of a process's first.

Usage: python benchmarks/probes.py [--rounds 20] [--folder DIR]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from tenfold.monitor.probes import probe_machine, read_sensors


def timed(folder: Path, device: torch.device, *, first: bool) -> tuple[float, float, dict[str, float]]:
    """Seconds of one round, core-seconds, and what it measured."""
    start, busy = time.perf_counter(), time.process_time()
    figures = probe_machine(folder, device, first=first) | read_sensors(folder)
    return time.perf_counter() - start, time.process_time() - busy, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path())
    words = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    first, first_busy, _ = timed(words.folder, device, first=True)
    rounds = [timed(words.folder, device, first=False) for _ in range(words.rounds)]
    seconds = sorted(each for each, _, _ in rounds)
    record = {
        "device": str(device),
        "first_s": first,
        "first_core_s": first_busy,
        "median_core_s": statistics.median(busy for _, busy, _ in rounds),
        "median_s": statistics.median(seconds),
        "worst_s": seconds[-1],
        "wrong": sum(figures["probe/wrong"] for _, _, figures in rounds),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
