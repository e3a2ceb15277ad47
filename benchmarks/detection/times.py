"""Faults of time, memory, disk, links and devices, put into step times that were recorded from real training.

    python -m benchmarks.detection.times --folder DIR --recorded 2 --seed 2 [--seeds 21]

Step times are those of `record` (a stretch of the recording, drawn for each seed); parts, links, memory and disk are
made from them with noise. What is wrong is multiplied into the values from a random step on.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tenfold.ledger import SignalIncident
from tenfold.monitor.detect.bank import Bank
from tenfold.monitor.detect.waiting import Hang, Lemons

STEPS, FIRST, LAST = 2400, 1200, 1600
Row = dict[str, float]
Fault = Callable[[Row, int, float], None]
"""Changes the values of a step: (values, steps since the onset, size in 0–1)."""


def slowdown(row: Row, age: int, size: float) -> None:
    row["time/step"] *= 1.4 + size


def loader_straggles(row: Row, age: int, size: float) -> None:
    row["time/data"] *= 3 + 5 * size
    row["time/step"] += row["time/data"]


def link_worse(row: Row, age: int, size: float) -> None:
    row["link/learner-1/up_bytes_per_second"] /= 3 + 7 * size


def memory_leak(row: Row, age: int, size: float) -> None:
    row["process/memory"] *= 1 + (1 + 4 * size) * 1e-4 * age


def disk_fills(row: Row, age: int, size: float) -> None:
    row["disk/free"] -= 2e8 * (1 + 4 * size) * age


def checkpoint_slow(row: Row, age: int, size: float) -> None:
    if "time/checkpoint" in row:
        row["time/checkpoint"] *= 6 + 20 * size


def probe_wrong(row: Row, age: int, size: float) -> None:
    if age % 100 == 0:
        row["probe/wrong"] = 1.0 + round(10 * size)


def replica_differs(row: Row, age: int, size: float) -> None:
    row["digest/weights/learner-1"] += 1.0


def memory_errors(row: Row, age: int, size: float) -> None:
    row["device/gpu0/memory_errors"] = 1.0 + age // 50


FAULTS: dict[str, Fault] = {
    "slowdown": slowdown,
    "loader straggles": loader_straggles,
    "link worse": link_worse,
    "memory leak": memory_leak,
    "disk fills": disk_fills,
    "checkpoint slow": checkpoint_slow,
    "probe wrong": probe_wrong,
    "replica differs": replica_differs,
    "memory errors": memory_errors,
}


def rows(seconds: np.ndarray, random: np.random.Generator) -> list[Row]:
    """Values of each step without a fault."""
    noise, walk = random.standard_normal((len(seconds), 4)), 0.0
    made = []
    for step, (second, n) in enumerate(zip(seconds, noise.tolist(), strict=True), 1):
        walk = 0.95 * walk + 0.1 * n[1]  # links change slowly
        row = {
            "time/step": float(second), "time/data": 0.1 * float(second) * float(np.exp(0.3 * n[0])),
            "link/learner-1/up_bytes_per_second": 1e7 * float(np.exp(walk)),
            "process/memory": 2e9 * (1 + 0.1 * (1 - np.exp(-step / 300)) + 0.003 * abs(n[2])),
            "disk/free": 2e11 - 1e5 * step, "digest/weights/learner-0": float(step), "device/gpu0/memory_errors": 0.0,
            "digest/weights/learner-1": float(step),
        }  # fmt: skip
        if step % 25 == 0:
            row["time/checkpoint"] = 5 * float(second) * float(np.exp(0.2 * n[3]))
        made.append(row)
    return made


def incidents_of(given: list[Row]) -> list[tuple[int, SignalIncident]]:
    """(step, incident) that the bank opens."""
    bank = Bank()
    return [
        (step, told.what)
        for step, row in enumerate(given, 1)
        for told in bank.update(step, row)
        if told.is_new and isinstance(told.what, SignalIncident)
    ]


def recorded_seconds(folder: Path, seed: int) -> np.ndarray:
    """Real seconds of each recorded step."""
    files = sorted(folder.glob(f"healthy-{seed}-??????.npz"))
    return np.concatenate([np.load(file)["time/step"].ravel() for file in files]).astype(float)


def waiting(random: np.random.Generator, seconds: np.ndarray) -> tuple[bool, int, bool]:
    """A hang after real steps: found, and false alarms at the longest gaps; a lemon of eight learners: found."""
    hang, now, false = Hang(), 0.0, 0
    for step, second in enumerate(seconds):
        false += len(hang.overdue(now + second))
        now += second
        hang.stepped(step, now)
    lemons, found = Lemons(), False
    for number in range(8):
        lemons.joined(f"learner-{number}")
    for step in range(30):  # one in two ends is the lemon's
        name = "learner-3" if random.random() < 0.5 else f"learner-{random.integers(8)}"
        found = found or any(f.payload.learner == "learner-3" for f in lemons.ended(name, step))
    return bool(hang.overdue(now + 1e4)), false, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--recorded", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=21)
    given = parser.parse_args()
    seconds = recorded_seconds(given.folder, given.recorded)
    false, steps, extra = [], 0, [0, 0, 0]
    for number in range(given.seeds):
        random = np.random.default_rng([given.seed, number])
        start = int(random.integers(0, len(seconds) - STEPS + 1))
        clean = rows(seconds[start : start + STEPS], random)
        false += [(number, step, what.cause) for step, what in incidents_of(clean)]
        steps += STEPS
        hung, alarms, lemon = waiting(random, seconds[start : start + STEPS])
        extra = [extra[0] + hung, extra[1] + alarms, extra[2] + lemon]
    print(f"clean: {len(false)} incidents in {steps} steps {false}")
    print(f"hang found {extra[0]}/{given.seeds}, false {extra[1]}; lemon found {extra[2]}/{given.seeds}")
    for name, fault in FAULTS.items():
        print(f"{name:18} {_row(fault, name, seconds, given.seed, given.seeds)}")


def _row(fault: Fault, name: str, seconds: np.ndarray, seed: int, seeds: int) -> str:
    """Recall, median delay, share with one incident, kinds."""
    delays, single, kinds = [], 0, set[str]()
    for number in range(seeds):
        random = np.random.default_rng([seed, number, len(name)])
        start = int(random.integers(0, len(seconds) - STEPS + 1))
        onset, size = int(random.integers(FIRST, LAST)), float(random.random())
        made = rows(seconds[start : start + STEPS], random)
        for step in range(onset, STEPS + 1):
            fault(made[step - 1], step - onset, size)
        found = [(step, what) for step, what in incidents_of(made) if step >= onset]
        if found:
            delays.append(found[0][0] - onset)
            single += len(found) == 1
            kinds.add(str(found[0][1].kind))
    middle = f"{statistics.median(delays):.0f}" if delays else "–"
    return f"{len(delays)}/{seeds} delay {middle:>4}  one incident {single}/{len(delays)}  {sorted(kinds)}"


if __name__ == "__main__":
    main()
