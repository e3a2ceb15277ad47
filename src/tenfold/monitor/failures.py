"""Failures and operating time of runs, read from their ledgers.

A failure is what ends work that nobody asked to end: a run that fails or is killed, a learner's process that dies,
stalls, diverges or is quarantined, a fragment or checkpoint that cannot be used, and each critical incident. What
follows from one failure is not counted again: a learner that joins anew after its process died failed once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tenfold.ledger import (
    CheckpointDamaged,
    EndCause,
    Event,
    EventKind,
    FaultInjected,
    Incident,
    IncidentKind,
    LearnerEnded,
    LearnerJoined,
    LearnerQuarantined,
    LearnerStalled,
    Ledger,
    MergeFailed,
    ProcessDied,
    ProcessGivenUp,
    Run,
    Severity,
)

RUNG = "rung"
"""Kind of the ladder's small runs, which are not counted: their hours are few, and their ends are the ladder's."""
AFTER_FAULT_S = 120.0
"""A failure this long after a fault injected on purpose, at the same process, is the fault's."""
ENDS = (IncidentKind.FAILED, IncidentKind.NOT_FINITE)
"""Incidents that end a run at the moment they are opened."""
UNASKED = (EndCause.REPLACED, EndCause.REJOINED)
"""Ends of a learner's life that show a failure where nothing else of that life does."""


@dataclass(frozen=True)
class Failure:
    """One failure. `at`: seconds since the epoch. `who`: the learner or process; empty for the whole run."""

    at: float
    cause: str
    who: str = ""
    injected: bool = False
    """Whether a fault was injected on purpose just before."""


@dataclass(frozen=True)
class AtWork:
    """Operating time of a run, or of one learner's life, in seconds since the epoch."""

    start: float
    end: float
    who: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return max(0.0, self.end - self.start)


@dataclass(frozen=True)
class History:
    """What one or several ledgers say of reliability."""

    failures: tuple[Failure, ...]
    """In order of time."""
    running: tuple[AtWork, ...]
    """When runs were at work."""
    lives: tuple[AtWork, ...]
    """When each learner was."""

    def without_injected(self) -> "History":
        """Failures that happened by themselves."""
        return replace(self, failures=tuple(each for each in self.failures if not each.injected))


def joined_histories(histories: Iterable[History]) -> History:
    """Several as one, failures in order of time."""
    every = list(histories)
    failures = sorted((each for one in every for each in one.failures), key=lambda each: each.at)
    running = tuple(span for one in every for span in one.running)
    return History(tuple(failures), running, tuple(span for one in every for span in one.lives))


def read_history(ledger: Ledger, now: float) -> History:
    """Failures and operating time of every run but the ladder's. `now`: until when a run that goes on has run."""
    runs = {run.id: run for run in ledger.runs() if run.kind != RUNG}
    events = [each for each in ledger.events() if each.run_id is None or each.run_id in runs]
    incidents = [each for each in ledger.incidents() if each.run_id is None or each.run_id in runs]
    return history_of(list(runs.values()), events, incidents, now)


def history_of(runs: Sequence[Run], events: Sequence[Event], incidents: Sequence[Incident], now: float) -> History:
    """The same from rows of a ledger; events in order of time."""
    failures, running, lives = [], [], []
    for run in runs:
        own = [each for each in events if each.run_id == run.id]
        ended = run.finished_at or now
        stops, spans = _stops(run, own, [each for each in incidents if each.run_id == run.id], ended)
        mine = _lives(own, ended)
        failures += [*stops, *_failures_of_learners(own, mine)]
        running += spans
        lives += [AtWork(life.start, life.end, life.name) for life in mine.values()]
    failures += [Failure(each.opened_at, each.kind) for each in incidents if _is_other_critical(each)]
    marked = [replace(each, injected=_is_injected(each, events)) for each in failures]
    return History(tuple(sorted(marked, key=lambda each: each.at)), tuple(running), tuple(lives))


def _is_other_critical(incident: Incident) -> bool:
    return incident.severity == Severity.CRITICAL and incident.kind not in (*ENDS, IncidentKind.KILLED)


# A run that stops


def _stops(
    run: Run, events: Sequence[Event], incidents: Sequence[Incident], ended: float
) -> tuple[list[Failure], list[AtWork]]:
    """Where the whole run ended unasked, and the time that it was at work.

    The ledger does not know when a killed process died: it counts as at work until the next one began.
    """
    failures: list[Failure] = []
    spans: list[AtWork] = []
    begun: float | None = run.started_at
    killed_told = False
    for at, mark in sorted(_marks(events, incidents)):
        if mark == EventKind.RESUMED:
            if begun is not None and not killed_told:
                failures.append(Failure(at, IncidentKind.KILLED))
            begun, killed_told = (at if begun is None else begun), False
        elif mark == IncidentKind.KILLED:
            failures.append(Failure(at, mark))
            begun, killed_told = (at if begun is None else begun), True
        elif begun is not None:
            if mark != EventKind.INTERRUPTED:
                failures.append(Failure(at, mark))
            spans.append(AtWork(begun, at))
            begun = None
    if begun is not None:
        spans.append(AtWork(begun, ended))
        if run.status == "failed":
            failures.append(Failure(ended, IncidentKind.FAILED))
    return failures, spans


def _marks(events: Sequence[Event], incidents: Sequence[Incident]) -> Iterator[tuple[float, str]]:
    """When the run stopped or went on, and how. An incident that came again is one row: it has two times."""
    yield from ((each.at, each.kind) for each in events if each.kind in (EventKind.RESUMED, EventKind.INTERRUPTED))
    for incident in incidents:
        if incident.kind in (*ENDS, IncidentKind.KILLED):
            again = incident.updated_at if incident.state == "updated" else incident.opened_at
            yield from ((at, incident.kind) for at in {incident.opened_at, again})


# A learner that stops


@dataclass
class _Life:
    """One incarnation of a learner."""

    name: str
    start: float
    end: float
    failed: bool = False


def _lives(events: Sequence[Event], until: float) -> dict[int, _Life]:
    """Number of a life → its learner and time."""
    lives: dict[int, _Life] = {}
    for event in events:
        match event.payload:
            case LearnerJoined(life=number, name=name):
                lives[number] = _Life(name or f"life {number}", event.at, max(until, event.at))
            case LearnerEnded(life=number) if number in lives:
                lives[number].end = event.at
    return lives


def _failures_of_learners(events: Sequence[Event], lives: dict[int, _Life]) -> list[Failure]:
    """What befell learners, other processes and their work, each failure once."""
    return [failure for event in events if (failure := _failure_in(event, lives)) is not None]


def _failure_in(event: Event, lives: dict[int, _Life]) -> Failure | None:
    match event.payload:
        case ProcessDied(learner=who) | ProcessGivenUp(learner=who):
            _fail_newest(who, event.at, lives)
            return Failure(event.at, event.kind, who)
        case LearnerStalled(life=number) | LearnerQuarantined(life=number):
            return _failed(event, event.kind, lives.get(number))
        case LearnerEnded(life=number, cause=EndCause.DIVERGED):
            return _failed(event, EndCause.DIVERGED, lives.get(number))
        case LearnerEnded(life=number, cause=cause) if cause in UNASKED:
            life = lives.get(number)
            return None if life is not None and life.failed else _failed(event, EventKind.DIED, life)
        case MergeFailed() | CheckpointDamaged():
            return Failure(event.at, event.kind)
    return None


def _failed(event: Event, cause: str, life: _Life | None) -> Failure:
    if life is not None:
        life.failed = True
    return Failure(event.at, cause, life.name if life is not None else "")


def _fail_newest(who: str, at: float, lives: dict[int, _Life]) -> None:
    """Mark the newest life of that learner as failed, so that its end is not counted too."""
    begun = [life for life in lives.values() if life.name == who and life.start <= at]
    if begun:
        max(begun, key=lambda life: life.start).failed = True


def _is_injected(failure: Failure, events: Sequence[Event]) -> bool:
    for event in events:
        match event.payload:
            case FaultInjected(target=target, seconds=seconds):
                until = event.at + (seconds or 0.0) + AFTER_FAULT_S
                if target == failure.who and event.at <= failure.at <= until:
                    return True
    return False
