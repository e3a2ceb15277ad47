"""What report.json holds about a run of several learners: from its merge log and the ledger's events."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tenfold.config import Campaign
from tenfold.core import InputError
from tenfold.learners import (
    Down,
    Incarnation,
    Pause,
    Row,
    RunLog,
    Sent,
    Span,
    coverage,
    natural,
    outages,
    pauses_of,
    rows_of,
    server_of,
)
from tenfold.ledger import Event, EventKind
from tenfold.train import RunPlan

Record = dict[str, Any]
BINS = 48  # of the run's time, for charts over it
FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Clock:
    """Time of the run in seconds: since its first learner joined, without the pauses between two commands."""

    begin: float
    pauses: Sequence[Pause]

    def __call__(self, at: float) -> float:
        """Of a moment in seconds since the epoch; what lies before the run is 0."""
        at = max(at, self.begin)
        return at - self.begin - sum(max(0.0, min(at, end) - begin) for begin, end in self.pauses)


@dataclass(frozen=True)
class _Facts:
    """What the merge log says."""

    incarnations: list[Incarnation]
    participation: list[tuple[float, int, int]]
    """(time, learners merged, learners alive) of each version."""
    arrivals: list[tuple[float, int, int]]
    sent: dict[int, Sent]
    committed: list[tuple[int, int, int, int]]
    refusals: list[tuple[int, str]]
    total: int


def learners_record(campaign: Campaign, plan: RunPlan, folder: Path, events: Sequence[Event]) -> Record | None:
    """The key learners of report.json; None for a run without learners, or whose merge log is gone.

    `events` may be those of the whole ledger: only what a run of several learners notes is looked at.
    """
    if not campaign.learners.count:
        return None
    try:
        with RunLog.opened(folder) as log:
            facts = _read(log)
    except InputError:
        return None
    return _record(plan, facts, events) if facts.incarnations else None


def _read(log: RunLog) -> _Facts:
    return _Facts(
        incarnations=log.incarnations(),
        participation=sorted((at, merged, alive) for _, _, merged, alive, at in log.participation()),
        arrivals=log.arrivals(),
        sent=log.sent(),
        committed=log.committed(),
        refusals=log.refusals(),
        total=log.total_samples(),
    )


def _record(plan: RunPlan, facts: _Facts, events: Sequence[Event]) -> Record:
    incarnations = facts.incarnations
    begin, end = (
        min(each.joined_at for each in incarnations),
        max(each.ended_at or each.joined_at for each in incarnations),
    )
    started = max(
        (event.at for event in events if event.kind == EventKind.STARTED and event.at <= begin), default=begin
    )
    events = [event for event in events if event.at >= started]
    pauses = pauses_of(events, incarnations, (at for at, _, _ in facts.participation))
    clock = Clock(begin, pauses)
    rows = rows_of(events, incarnations, end, pauses)
    missing, twice = coverage(((first, done) for _, first, _, done in facts.committed), facts.total)
    seconds = clock(end)
    return {
        "seconds": seconds,
        "tokens_per_second": facts.total * plan.context / seconds,
        "pauses": [{"at": clock(start), "seconds": start - last} for last, start in pauses],
        "rows": [_row(row, clock) for row in rows],
        "outages": [_down(down, clock, end) for down in outages(events, incarnations, end, pauses)],
        "participation": _participation(facts.participation, clock, seconds),
        "rates": _rates(facts, events, clock, seconds),
        "learners": _learners(facts, events, rows, clock, plan.context),
        "lives": [_incarnation(each, clock) for each in incarnations],
        "samples": {"total": facts.total, "missing": missing, "twice": twice},
        "contributions_lost": sum(sent.unmerged for sent in facts.sent.values()),
        "steps_in_part": _steps_in_part(events),
        "data_parallel_bytes_per_token": data_parallel_bytes_per_token(
            plan.parameters, len({each.name for each in incarnations}), incarnations[0].batch * plan.context
        ),
        "syncer": _syncer(events, facts),
    }


def data_parallel_bytes_per_token(parameters: int, learners: int, step_tokens: int) -> float:
    """Bytes one of `learners` sends for each token it trains on when gradients are averaged in float32 at every step.

    A ring all-reduce of P values over n members cuts them into n parts (Patarasuk and Yuan, J. Parallel Distrib.
    Comput. 69, 2009). Each member sends one part in each of n − 1 rounds of summing and n − 1 rounds of handing round:
    2 (n − 1) · P / n values, the least that any all-reduce can do. With 4 bytes a value, and `step_tokens` tokens of
    its own in a step, that is 8 P (n − 1) / (n · step_tokens). It receives as much.
    """
    return 2 * (learners - 1) / learners * FLOAT32 * parameters / step_tokens


# Over time


def _row(row: Row, clock: Clock) -> Record:
    return {
        "name": row.name,
        "spans": [_timed(asdict(span), clock) for span in row.spans],
        "disturbances": [_timed(asdict(disturbance), clock) for disturbance in row.disturbances],
        "marks": [asdict(mark) | {"at": clock(mark.at)} for mark in row.marks],
    }


def _timed(record: Record, clock: Clock) -> Record:
    return record | {"begin": clock(record["begin"]), "end": clock(record["end"])}


def _down(down: Down, clock: Clock, end: float) -> Record:
    """One outage; `end` is null for a learner that did not train again."""
    return asdict(down) | {"begin": clock(down.begin), "end": clock(down.end) if down.end < end else None}


def _participation(versions: Sequence[tuple[float, int, int]], clock: Clock, seconds: float) -> Record:
    """Share of the learners at work that a merge had contributions of: mean over all, and in each part of the run."""
    shares = [(clock(at), merged / alive) for at, merged, alive in versions]
    bins: list[list[float]] = [[] for _ in range(BINS)]
    for at, share in shares:
        bins[_bin(at, seconds)].append(share)
    return {
        "merges": len(shares),
        "mean": _mean([share for _, share in shares]),
        "full": sum(share == 1 for _, share in shares),
        "over_time": [_mean(group) for group in bins],
    }


def _bin(at: float, seconds: float) -> int:
    return min(int(at / seconds * BINS), BINS - 1)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rates(facts: _Facts, events: Sequence[Event], clock: Clock, seconds: float) -> dict[str, list[float]]:
    """Tokens per second of each learner in each part of the run.

    The tokens of a contribution were trained since the one before it, or since its learner was healed.
    """
    since = {event.data["life"]: clock(event.at) for event in events if event.kind == EventKind.HEALED}
    names = {each.number: each.name for each in facts.incarnations}
    edges = [number * seconds / BINS for number in range(BINS + 1)]
    found = {name: [0.0] * BINS for name in sorted(set(names.values()), key=natural)}
    for at, incarnation, tokens in facts.arrivals:
        begin, end = since.get(incarnation, 0.0), clock(at)
        since[incarnation] = end
        for number in range(_bin(begin, seconds), _bin(end, seconds) + 1):
            inside = min(end, edges[number + 1]) - max(begin, edges[number])
            share = inside / (end - begin) if end > begin else 1.0
            found[names[incarnation]][number] += tokens * share / (seconds / BINS)
    return found


# Sums


def _learners(facts: _Facts, events: Sequence[Event], rows: Sequence[Row], clock: Clock, context: int) -> list[Record]:
    """One record for each learner, in order of its name."""
    by_name = {row.name: [each for each in facts.incarnations if each.name == row.name] for row in rows}
    return [_learner(row, by_name[row.name], facts, events, clock, context) for row in rows if by_name[row.name]]


def _learner(
    row: Row, incarnations: Sequence[Incarnation], facts: _Facts, events: Sequence[Event], clock: Clock, context: int
) -> Record:
    own = {each.number for each in incarnations}
    sent = [facts.sent[number] for number in own if number in facts.sent]
    tokens = context * sum(done for incarnation, _, _, done in facts.committed if incarnation in own)
    size, training = sum(each.bytes for each in sent), _seconds(row.spans, clock)
    return {
        "name": row.name,
        "lives": len(incarnations),
        "steps": sum(each.steps or 0 for each in incarnations),
        "tokens": tokens,
        "training_seconds": training,
        "tokens_per_second": tokens / training if training else None,
        "steps_again": sum(_steps_again(number, events) for number in own),
        "merges": sum(each.versions for each in sent),
        "bytes_sent": size,
        "bytes_per_token": size / tokens if tokens else None,
        "longest_gap": max(_gaps(row.name, own, events), default=None),
        "quarantines": [reason for incarnation, reason in facts.refusals if incarnation in own],
    }


def _seconds(spans: Iterable[Span], clock: Clock) -> float:
    return sum(clock(span.end) - clock(span.begin) for span in spans if span.state == "training")


def _steps_again(incarnation: int, events: Sequence[Event]) -> int:
    """Steps of an incarnation that do not count.

    What its learner said when it joined again includes what was known at the end.
    """
    of_incarnation = [event for event in events if event.data.get("life") == incarnation]
    known = [int(event.data["unsent_steps"]) for event in of_incarnation if event.kind == EventKind.ENDED]
    return max(
        known + [int(event.data["steps"]) for event in of_incarnation if event.kind == EventKind.ABANDONED], default=0
    )


def _gaps(name: str, incarnations: set[int], events: Sequence[Event]) -> list[float]:
    """Longest time between two steps of each incarnation, in seconds."""
    ended = [
        float(e.data["longest_gap"]) for e in events if e.kind == EventKind.ENDED and e.data["life"] in incarnations
    ]
    finished = [float(e.data["longest_gaps"][name]) for e in events if name in e.data.get("longest_gaps", {})]
    return ended + finished


def _steps_in_part(events: Sequence[Event]) -> int:
    """Steps of ended incarnations that count, but whose pseudo-gradient of some fragment had not been sent yet."""
    missing: list[Mapping[str, int]] = [
        e.data["steps_missing_in_fragments"] for e in events if e.kind == EventKind.ENDED
    ]
    return sum(max(fragments.values(), default=0) for fragments in missing)


def _incarnation(incarnation: Incarnation, clock: Clock) -> Record:
    return {
        "number": incarnation.number,
        "name": incarnation.name,
        "begin": clock(incarnation.joined_at),
        "end": None if incarnation.ended_at is None else clock(incarnation.ended_at),
        "steps": incarnation.steps,
        "reason": incarnation.reason,
    }


def _syncer(events: Sequence[Event], facts: _Facts) -> Record:
    """Restarts within a command: those that `tenfold train` itself is to blame for do not count."""
    serving = [(server_of(event), event.at) for event in events if event.kind == EventKind.SERVING]
    started = [event.at for event in events if event.kind == EventKind.STARTED]
    sessions = list(pairwise([*started, float("inf")]))
    of_session = [Counter(name for name, at in serving if begin <= at < end) for begin, end in sessions]
    restarts = sum(starts - 1 for of_process in of_session for starts in of_process.values())
    refused = sum(event.kind == EventKind.REFUSED for event in events)
    return {"restarts": restarts, "versions": len(facts.participation), "refused": refused}
