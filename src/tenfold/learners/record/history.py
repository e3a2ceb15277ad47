"""What happened to each process of a run, from the ledger's events and the incarnations of the merge log. Pure.

Times are seconds since the epoch, as events and incarnations have them.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tenfold.config import SYNCER
from tenfold.learners.syncer.membership import Incarnation
from tenfold.ledger import Event, EventKind

State = Literal["training", "healing", "frozen", "out"]
MarkKind = Literal["fault", "joined", "healed", "quarantined", "left"]
INCARNATION_MARKS: tuple[MarkKind, ...] = ("joined", "healed", "quarantined", "left")
STOPPING = ("kill", "stop", "hang", "nan")  # faults that keep a learner from training; the others make it harder
FREEZING = ("stop", "hang")
SEALING_S = 0.5  # a freeze may end while the syncer gives its learner up
Pause = tuple[float, float]
"""Nobody ran: from the last sign of the run until a command took it up again."""


@dataclass(frozen=True)
class Down:
    """A learner that could not train, from `begin` until it trained again (or the end).

    `kind` is the fault; without one "died", or the reason for which the syncer ended its incarnation.
    """

    name: str
    kind: str
    begin: float
    end: float


@dataclass(frozen=True)
class Span:
    """A process in one state. The syncer counts as training when it serves.

    healing: joined, without its state yet; frozen: stopped or hung, and not given up yet; out: dead or given up.
    """

    state: State
    begin: float
    end: float


@dataclass(frozen=True)
class Disturbance:
    """A fault under which a process goes on as well as it can: slow, partition, delay, …"""

    kind: str
    begin: float
    end: float


@dataclass(frozen=True)
class Mark:
    """Something that happened to a process at one moment."""

    kind: MarkKind
    at: float
    text: str


@dataclass(frozen=True)
class Row:
    """One process through the run."""

    name: str
    spans: tuple[Span, ...]
    disturbances: tuple[Disturbance, ...]
    marks: tuple[Mark, ...]


# When learners could not train


def downtimes(events: Sequence[Event], incarnations: Sequence[Incarnation], end: float) -> list[Down]:
    """One for each fault that keeps a learner from training; of faults that overlap each has its own."""
    found = []
    for event in events:
        if event.kind == EventKind.CHAOS and event.data["fault"] in STOPPING and not is_syncer(event.data["target"]):
            name, kind = str(event.data["target"]), str(event.data["fault"])
            found.append(Down(name, kind, event.at, _trains_again(event, name, events, incarnations, end)))
    return found


def _trains_again(
    fault: Event, name: str, events: Sequence[Event], incarnations: Sequence[Incarnation], end: float
) -> float:
    if fault.data["fault"] == "stop" and _ended_by(fault, incarnations) is None:
        return min(fault.at + float(fault.data["seconds"]), end)  # it was not given up meanwhile, and went on
    return _healed_after(fault.at, name, events, incarnations, end)


def _ended_by(fault: Event, incarnations: Sequence[Incarnation]) -> Incarnation | None:
    """The incarnation that a fault of its learner ended; None when it went on."""
    known = [
        incarnation
        for incarnation in incarnations
        if incarnation.name == fault.data["target"] and incarnation.joined_at <= fault.at
    ]
    if not known or known[-1].state != "evicted" or known[-1].ended_at is None:
        return None
    over = fault.at + float(fault.data["seconds"]) + SEALING_S if fault.data["fault"] == "stop" else math.inf
    return known[-1] if fault.at <= known[-1].ended_at < over else None


def detections(events: Sequence[Event], incarnations: Sequence[Incarnation]) -> list[float]:
    """Seconds from each freeze or hang of a learner until the syncer gave it up, where it did."""
    stalled = {event.data["life"] for event in events if event.kind == EventKind.STALLED}
    found = []
    for event in events:
        if event.kind == EventKind.CHAOS and event.data["fault"] in FREEZING:
            incarnation = _ended_by(event, incarnations)
            if incarnation is not None and incarnation.ended_at is not None and incarnation.number in stalled:
                found.append(incarnation.ended_at - event.at)
    return found


def _healed_after(
    at: float, name: str, events: Sequence[Event], incarnations: Sequence[Incarnation], end: float
) -> float:
    own = {incarnation.number for incarnation in incarnations if incarnation.name == name}
    return next((e.at for e in events if e.kind == EventKind.HEALED and e.at > at and e.data["life"] in own), end)


def outages(
    events: Sequence[Event], incarnations: Sequence[Incarnation], end: float, pauses: Sequence[Pause] = ()
) -> list[Down]:
    """`downtimes`, and each incarnation that ended early without such a fault, in order of time.

    An incarnation that a pause ended is none: nobody trained then.
    """
    found = downtimes(events, incarnations, end)
    for incarnation in incarnations:
        if incarnation.state != "evicted" or incarnation.ended_at is None:
            continue
        faulty = any(
            down.name == incarnation.name and incarnation.joined_at <= down.begin <= incarnation.ended_at
            for down in found
        )
        if faulty or any(incarnation.joined_at <= begin < incarnation.ended_at for begin, _ in pauses):
            continue
        died = _death(events, incarnation.name, incarnation.joined_at, incarnation.ended_at)
        begin, kind = (incarnation.ended_at, str(incarnation.reason)) if died is None else (died, "died")
        found.append(
            Down(incarnation.name, kind, begin, _healed_after(begin, incarnation.name, events, incarnations, end))
        )
    return sorted(found, key=lambda down: down.begin)


def _death(events: Iterable[Event], name: str, begin: float, end: float) -> float | None:
    """When a process that was there from begin to end was killed or died; None when it did not."""
    return min((e.at for e in events if begin <= e.at < end and _is_death(e, name)), default=None)


def _is_death(event: Event, name: str) -> bool:
    if event.kind == EventKind.CHAOS:
        return bool(event.data["fault"] == "kill" and event.data["target"] == name)
    return event.kind == EventKind.DIED and event.data["learner"] == name


# The whole picture


def pauses_of(events: Sequence[Event], incarnations: Sequence[Incarnation], signs: Iterable[float] = ()) -> list[Pause]:
    """When nobody ran, between two `tenfold train`; `signs` are times besides the events' at which somebody did."""
    begin = min(incarnation.joined_at for incarnation in incarnations)
    starts = [event.at for event in events if event.kind == EventKind.STARTED and event.at > begin]
    alive = [begin, *(event.at for event in events), *signs]
    return [(max(at for at in alive if at < start), start) for start in starts]


def rows_of(
    events: Sequence[Event], incarnations: Sequence[Incarnation], end: float, pauses: Sequence[Pause] = ()
) -> list[Row]:
    """Every learner in order of its name, then the syncer: further shards first."""
    names = sorted({incarnation.name for incarnation in incarnations}, key=natural)
    rows = {name: _stays_of_learner(name, events, incarnations, end, pauses) for name in names}
    begin = min(incarnation.joined_at for incarnation in incarnations)
    servers = {server_of(event) for event in events if event.kind == EventKind.SERVING}
    for name in sorted(servers | {SYNCER}, key=natural, reverse=True):
        rows[name] = _stays_of_syncer(name, events, begin, end, pauses)
    return [
        Row(
            name,
            tuple(_spans(stays, _frozen(name, events, incarnations, end), end)),
            _disturbances(name, events, end),
            tuple(_marks(name, stays, [e for e in events if e.at <= end], incarnations)),
        )
        for name, stays in rows.items()
    ]


def is_syncer(name: str) -> bool:
    """Whether a process is one of the syncer's: `syncer`, or a further shard of it, `syncer-1`."""
    return name.startswith(SYNCER)


def server_of(event: Event) -> str:
    """Which process an event of kind "serving" is of."""
    return f"{SYNCER}-{event.data['shard']}" if "shard" in event.data else SYNCER


def natural(name: str) -> list[tuple[int, str]]:
    """Key for sorting that puts learner-2 before learner-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class _Stay:
    """A process from when it is there, by way of ready and gone, to its official end; `clean`: it was done."""

    begin: float
    ready: float
    gone: float
    over: float
    clean: bool


def _stays_of_learner(
    name: str, events: Sequence[Event], incarnations: Sequence[Incarnation], end: float, pauses: Sequence[Pause]
) -> list[_Stay]:
    healed = {event.data["life"]: event.at for event in events if event.kind == EventKind.HEALED}
    stays = []
    for incarnation in (incarnation for incarnation in incarnations if incarnation.name == name):
        over = incarnation.ended_at or end
        gone = _gone(name, incarnation.joined_at, over, events, pauses)
        ready = min(healed.get(incarnation.number, gone), gone)
        stays.append(_Stay(incarnation.joined_at, ready, gone, over, incarnation.state in ("left", "finished")))
    return stays


def _stays_of_syncer(
    name: str, events: Sequence[Event], begin: float, end: float, pauses: Sequence[Pause]
) -> list[_Stay]:
    serving = [event.at for event in events if event.kind == EventKind.SERVING and server_of(event) == name]
    starts = sorted({begin, *(at for at in serving if at > begin)})
    stays = []
    for start, over in zip(starts, [*starts[1:], end], strict=True):
        gone = _gone(name, start, over, events, pauses)
        stays.append(_Stay(start, start, gone, over, clean=over == end and gone == end))
    return stays


def _gone(name: str, begin: float, over: float, events: Sequence[Event], pauses: Sequence[Pause]) -> float:
    died = _death(events, name, begin, over)
    return min([over if died is None else died, *(last for last, _ in pauses if begin <= last < over)])


def _spans(stays: Sequence[_Stay], frozen: Sequence[tuple[float, float]], end: float) -> list[Span]:
    """States one after another, without those of no length."""
    spans: list[Span] = []
    for number, stay in enumerate(stays):
        back = stays[number + 1].begin if number + 1 < len(stays) else end
        spans += _with_frozen(Span("healing", stay.begin, stay.ready), frozen)
        spans += _with_frozen(Span("training", stay.ready, stay.gone), frozen)
        spans.append(Span("out", stay.gone, stay.over if stay.clean else back))
    return [span for span in spans if span.end > span.begin]


def _with_frozen(span: Span, frozen: Sequence[tuple[float, float]]) -> list[Span]:
    """The span, cut where the process stood still."""
    pieces, at = [], span.begin
    for first, last in sorted(frozen):
        begin, end = max(first, at), min(last, span.end)
        if begin < end:
            pieces += [Span(span.state, at, begin), Span("frozen", begin, end)]
            at = end
    return [*pieces, Span(span.state, at, span.end)]


def _frozen(
    name: str, events: Sequence[Event], incarnations: Sequence[Incarnation], end: float
) -> list[tuple[float, float]]:
    """Where faults made it stand still; a hang ends with its incarnation, so at the latest when the next one joins."""
    return [
        (
            e.at,
            _next_incarnation(name, e.at, events, incarnations, end)
            if e.data["fault"] == "hang"
            else _over(e, events, end),
        )
        for e in events
        if e.kind == EventKind.CHAOS and e.data["target"] == name and e.data["fault"] in FREEZING
    ]


def _next_incarnation(
    name: str, at: float, events: Sequence[Event], incarnations: Sequence[Incarnation], end: float
) -> float:
    own = {incarnation.number for incarnation in incarnations if incarnation.name == name}
    joined = (e.at for e in events if e.kind == EventKind.JOINED and e.at > at and e.data["life"] in own)
    return next(joined, end)


def _over(fault: Event, events: Sequence[Event], end: float) -> float:
    """When a lasting fault was undone; of overlapping ones that are alike, each has its own end."""
    due = fault.at + float(fault.data["seconds"])
    same = [e.at for e in events if e.kind == EventKind.CHAOS_OVER and e.at >= fault.at and e.data == fault.data]
    return min(same, key=lambda at: abs(at - due), default=end)


def _disturbances(name: str, events: Sequence[Event], end: float) -> tuple[Disturbance, ...]:
    return tuple(
        Disturbance(e.data["fault"], e.at, _over(e, events, end))
        for e in events
        if e.kind == EventKind.CHAOS and e.data["target"] == name and "seconds" in e.data and e.data["fault"] != "stop"
    )


def _marks(
    name: str, stays: Sequence[_Stay], events: Sequence[Event], incarnations: Sequence[Incarnation]
) -> list[Mark]:
    """In order of time. The learners that the run began with have no mark for joining."""
    first = min((event.at for event in events if event.kind == EventKind.HEALED), default=0.0)
    own = {
        incarnation.number: incarnation.joined_at > first for incarnation in incarnations if incarnation.name == name
    }
    found = []
    for event in events:
        incarnation = event.data.get("life")
        if event.kind == EventKind.CHAOS and event.data["target"] == name:
            found.append(Mark("fault", event.at, str(event.data["fault"])))
        elif _is_death(event, name) and any(stay.gone == event.at for stay in stays):
            found.append(Mark("fault", event.at, "died"))
        elif incarnation in own and (event.kind in (EventKind.QUARANTINED, EventKind.LEFT) or own[incarnation]):
            found += [Mark(kind, event.at, event.message) for kind in INCARNATION_MARKS if kind == event.kind]
    return found


# Whether every sample counts once


def coverage(parts: Iterable[tuple[int, int]], total: int) -> tuple[int, int]:
    """(missing, counted more than once) of samples 0 … total − 1, of which `parts` (first, samples) are counted."""
    reached = missing = twice = 0
    for first, samples in sorted(parts):
        missing += max(0, first - reached)
        twice += max(0, min(reached, first + samples) - first)
        reached = max(reached, first + samples)
    return missing + max(0, total - reached), twice
