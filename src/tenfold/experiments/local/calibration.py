"""What this machine takes for the operations of a training step: measured in seconds, kept in the user's cache."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from tenfold.core.errors import InputError
from tenfold.experiments.local.costs import Costs, fit_costs
from tenfold.experiments.local.probes import Timed, time_probes
from tenfold.machine import usable_cores
from tenfold.machine.identity import cpu_name

FORMAT = 1  # of the kept file: another one is measured again
NOISE = 0.05
"""Standard deviation of the logarithm of a step: others at work and changing clocks, which no calibration knows."""
OTHERS_COST = 0.5
"""What a machine that others use altogether adds to that."""
BUSY = 0.1
USUAL = 1.04
"""The median step of a machine left alone over the best of a few: found with the tuning configurations."""
RESIDENT = (
    "import tenfold.campaign, tenfold.train.learner as learner; from tenfold.machine.identity import resident_bytes; "
    "learner.make_deterministic(1); print(resident_bytes())"
)


@dataclass(frozen=True)
class Calibration:
    """The machine with so many threads.

    A step takes `factor` times the sum of its operations: between them Python and autograd are at work, and the best
    of a few times of each is not had by all at once. `spread` is the standard deviation of the logarithm of what is
    left over on the probes, `others` the share of the machine's cores that other processes used meanwhile.
    """

    machine: str
    threads: int
    costs: Costs
    factor: float
    spread: float
    others: float
    process_bytes: int
    """Resident memory of a training process before it builds a model."""
    seconds: float
    """What measuring took."""
    measured_at: float

    @property
    def uncertainty(self) -> float:
        """Standard deviation of the logarithm of a forecast step time."""
        return float(np.linalg.norm([self.spread, NOISE, OTHERS_COST * self.others]))

    def warnings(self) -> list[str]:
        """What speaks against it."""
        if self.others < BUSY:
            return []
        return [
            f"others used {self.others:.0%} of the cores during the calibration; calibrate again when they are idle"
        ]


def calibrate(threads: int, *, again: bool = False, say: Callable[[str], None] | None = None) -> Calibration:
    """The calibration for so many threads, from the user's cache unless `again`; 15 to 40 s where it is measured.

    `say` is told before that begins. Raises InputError when the machine has fewer cores.
    """
    if not 1 <= threads <= usable_cores():
        raise InputError(f"train.threads = {threads}: this machine has {usable_cores()} cores to calibrate on")
    key = f"{cpu_name()} | {threads} | torch {torch.__version__} | format {FORMAT}"
    kept = None if again else _from_record(_read_cache().get(key))
    if kept is not None:
        return kept
    if say:
        say(f"measuring what this machine takes with {threads} threads: about half a minute, once")
    measured = _measure(key, threads)
    _write_cache(_read_cache() | {key: asdict(measured)})
    return measured


def _measure(key: str, threads: int) -> Calibration:
    began, work = time.monotonic(), _cpu_seconds()
    timed = time_probes(threads)
    others = _share_of_others(work, time.monotonic() - began)
    costs, factor, spread = fit_machine(timed)
    process = _process_bytes()
    return Calibration(
        key, threads, costs, USUAL * factor, spread, others, process, time.monotonic() - began, time.time()
    )


def _cpu_seconds() -> tuple[float, float]:
    """Worked by the whole machine and by this process, since they began."""
    whole, mine = psutil.cpu_times(), os.times()
    return whole.user + whole.system, mine.user + mine.system


def _share_of_others(before: tuple[float, float], elapsed: float) -> float:
    whole, mine = (now - then for now, then in zip(_cpu_seconds(), before, strict=True))
    return min(1.0, max(0.0, (whole - mine) / elapsed / (psutil.cpu_count() or 1)))


def fit_machine(timed: Sequence[Timed]) -> tuple[Costs, float, float]:
    """Costs of operations, the factor from their sum to a step, and the spread about it."""
    costs = fit_costs(
        (operation, seconds)
        for probe in timed
        for operation, seconds in zip(probe.operations, probe.seconds, strict=True)
    )
    ratios = np.log([probe.step_seconds / sum(map(costs.seconds, probe.operations)) for probe in timed])
    factor = float(np.median(ratios))
    return costs, float(np.exp(factor)), float(1.4826 * np.median(np.abs(ratios - factor)))


def _process_bytes() -> int:
    """Measured in a process of its own: this one has other things in memory."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _from_record(record: Any) -> Calibration | None:
    """None where there is none, or one that is not whole."""
    try:
        by_kind = {kind: tuple(found) for kind, found in record["costs"]["by_kind"].items()}
        costs = Costs(by_kind, record["costs"]["fresh"])
        return Calibration(**{**record, "costs": costs})
    except (KeyError, TypeError, AttributeError):
        return None


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tenfold" / "local_plan.json"


def _read_cache() -> dict[str, Any]:
    try:
        value = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_cache(known: dict[str, Any]) -> None:
    """Whole or not at all; a home that cannot be written only means measuring again next time."""
    path = _cache_file()
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return
