"""The faults of a trial: what happens to which replica, how many seconds after all have made their first step."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.core.errors import InputError

KINDS = ("kill", "stop", "hang")


@dataclass(frozen=True)
class Fault:
    """kill: SIGKILL; stop: SIGSTOP, SIGCONT after `seconds`; hang: the main Python thread sleeps for ever (SIGUSR1)."""

    at: float
    kind: str
    target: int
    seconds: float


def read_faults(path: Path, replicas: int, length: float) -> list[Fault]:
    """The faults in order of time. Raises InputError naming the record that cannot be."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(records, list):
        raise InputError(f"{path}: must be a list of faults")
    faults = [_fault(record, f"{path}: fault {n}", replicas, length) for n, record in enumerate(records)]
    return sorted(faults, key=lambda fault: fault.at)


def _fault(record: Any, where: str, replicas: int, length: float) -> Fault:
    if not isinstance(record, dict) or not record.keys() <= {"at", "kind", "target", "seconds"}:
        raise InputError(f"{where}: must be an object with at, kind, target and, for a stop, seconds")
    kind, target = record.get("kind"), record.get("target")
    if kind not in KINDS:
        raise InputError(f"{where}: kind = {kind!r}: must be one of {', '.join(KINDS)}")
    if not isinstance(target, int) or not 0 <= target < replicas:
        raise InputError(f"{where}: target = {target!r}: must be 0 … {replicas - 1}")
    seconds = record.get("seconds", 0.0)
    for key, value in (("at", record.get("at")), ("seconds", seconds)):
        if not isinstance(value, int | float) or not 0 <= value <= length or not math.isfinite(value):
            raise InputError(f"{where}: {key} = {value!r}: must be seconds, 0 … {length:g}")
    if kind == "stop" and not seconds:
        raise InputError(f"{where}: a stop needs `seconds`")
    return Fault(float(record["at"]), kind, target, float(seconds))
