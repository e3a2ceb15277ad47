"""Figures of a trial, from what the workers wrote."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from lines import Line
from supervisor import Injection, Phase

Interval = tuple[float, float]


@dataclass(frozen=True)
class Count:
    """Tokens and steps of a phase: those that count, and those committed on weights that were thrown away."""

    tokens: int
    steps: int
    tokens_lost: int
    steps_lost: int


def count(phase: Phase) -> Count:
    """What the weights at the end descend from, of what was committed in the phase."""
    limits = _limits(phase)
    within = [line for line in _steps_of_all(phase) if phase.began <= line.time <= phase.ended]
    kept = [line for line in within if _counts(line, limits)]
    lost = [line for line in within if not _counts(line, limits)]
    return Count(
        tokens=sum(line.tokens for line in kept),
        steps=len({line.step for line in kept}),
        tokens_lost=sum(line.tokens for line in lost),
        steps_lost=len({(line.lineage[-1], line.step) for line in lost}),
    )


def _steps_of_all(phase: Phase) -> Iterator[Line]:
    return (line for lines in phase.workers for line in lines if line.tokens)


def _limits(phase: Phase) -> dict[str, float]:
    """Branches that the last committed step descends from, each with the last of its steps that does."""
    last = max(_steps_of_all(phase), key=lambda line: line.time)
    names = [name for name, _ in last.lineage]
    ends = [float(step) for _, step in last.lineage[1:]]
    return dict(zip(names, [*ends, math.inf], strict=True))


def _counts(line: Line, limits: dict[str, float]) -> bool:
    return line.step <= limits.get(line.lineage[-1][0], -1.0)


def tokens_per_second(phase: Phase) -> float:
    """Of all replicas together."""
    return count(phase).tokens / (phase.ended - phase.began)


def able_share(phase: Phase) -> float:
    """Share of the replica-seconds in which a replica was neither frozen nor hung; a kill takes none away."""
    lengths = [
        _length(_merged(_clipped([(i.at, i.until or phase.ended) for i in _on(phase, worker)], phase)))
        for worker in range(len(phase.workers))
    ]
    return 1 - sum(lengths) / (len(phase.workers) * (phase.ended - phase.began))


def _on(phase: Phase, worker: int) -> list[Injection]:
    return [injection for injection in phase.injections if injection.fault.target == worker]


def _clipped(intervals: Sequence[Interval], phase: Phase) -> list[Interval]:
    return [(max(a, phase.began), min(b, phase.ended)) for a, b in intervals if b > phase.began and a < phase.ended]


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for a, b in sorted(intervals):
        if merged and a <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return merged


def _length(intervals: Sequence[Interval]) -> float:
    return sum(b - a for a, b in intervals)


def gaps(phase: Phase, worker: int) -> list[Interval]:
    """From each step of a replica to its next, and from its last one to the end."""
    times = [line.time for line in phase.workers[worker] if line.tokens and line.time >= phase.began]
    return list(pairwise([phase.began, *times, phase.ended]))


def disturbed(phase: Phase, worker: int) -> list[Interval]:
    """From each fault of this replica to the first step it takes part in afterwards."""
    return [(injection.at, first_step_after(phase, injection) or phase.ended) for injection in _on(phase, worker)]


def first_step_after(phase: Phase, injection: Injection) -> float | None:
    """When the target first took part in a step again, in another process if its own one ended; None: never.

    A step that was under way when the fault came and ends later does not count: after a hang it is the old process's,
    after a stop it is one that others have made already.
    """
    until = injection.until
    if until is None:
        return None
    lines = [line for line in phase.workers[injection.fault.target] if line.tokens and line.time > until]
    if injection.ended_by == "SIGCONT":
        made = max((line.step for line in _steps_of_all(phase) if line.time <= until), default=0)
        return next((line.time for line in lines if line.step > made), None)
    return next((line.time for line in lines if line.pid != injection.pid), None)


def longest_stall(phase: Phase) -> float:
    """Longest time without a step of a replica that no fault had hit yet, less the median gap; seconds."""
    workers = range(len(phase.workers))
    undisturbed = [_undisturbed(gap, disturbed(phase, worker)) for worker in workers for gap in gaps(phase, worker)]
    return max(undisturbed) - _median_gap(phase)


def _undisturbed(gap: Interval, faults: Sequence[Interval]) -> float:
    """Length of a gap up to the first of the replica's own faults in it; 0 when it began in one."""
    first, last = gap
    if any(since <= first < until for since, until in faults):
        return 0.0
    return min([last, *(since for since, _ in faults if since > first)]) - first


def _median_gap(phase: Phase) -> float:
    return median(b - a for worker in range(len(phase.workers)) for a, b in gaps(phase, worker))


def summary(baseline: Phase, phase: Phase) -> dict[str, Any]:
    """All figures, for the JSON file. Definitions: the docstring of trial.py."""
    rate, counted, length = tokens_per_second(baseline), count(phase), phase.ended - phase.began
    share = able_share(phase)
    return {
        "fault_free_tokens_per_second": rate,
        "seconds": length,
        **asdict(counted),
        "goodput": counted.tokens / (rate * length * share),
        "share_of_fault_free": counted.tokens / (rate * length),
        "able_share": share,
        "longest_stall_s": longest_stall(phase),
        "median_step_s": _median_gap(phase),
        "process_exits": phase.exits,
        "worker_restarts": [sum(line.is_start for line in lines) - 1 for lines in phase.workers],
        "last_loss": max(_steps_of_all(phase), key=lambda line: line.time).loss,
        "faults": [_fault_summary(phase, injection) for injection in phase.injections],
    }


def _fault_summary(phase: Phase, injection: Injection) -> dict[str, Any]:
    again = first_step_after(phase, injection)
    return {
        **asdict(injection.fault),
        "committed_at": injection.at - phase.began,
        "unable_s": (injection.until or phase.ended) - injection.at,
        "ended_by": injection.ended_by or "the end of the trial",
        "rejoin_s": None if again is None else again - injection.at,
    }
