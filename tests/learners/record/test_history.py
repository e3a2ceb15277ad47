"""What happened to each process, from hand-made events and lives whose answer is plain."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.learners.record.history import (
    SYNCER,
    Disturbance,
    Down,
    Mark,
    Row,
    Span,
    coverage,
    detections,
    downtimes,
    natural,
    outages,
    pauses_of,
    rows_of,
)
from tenfold.learners.syncer.membership import Incarnation, IncarnationState
from tenfold.ledger import Event

END = 100.0


def event(at: float, kind: str, message: str = "", **data: Any) -> Event:
    return Event(1, at, kind, message, data)


def fault(at: float, kind: str, target: str = "learner-1", **data: Any) -> Event:
    return event(at, "chaos", f"{kind} of {target}", fault=kind, target=target, **data)


def over(at: float, fault_event: Event) -> Event:
    return event(at, "chaos-over", "is over", **fault_event.data)


def life(
    number: int,
    joined: float,
    ended: float | None = END,
    state: IncarnationState = "finished",
    name: str = "learner-1",
    why: str = "",
) -> Incarnation:
    return Incarnation(number, name, None, 4, state, None, joined, ended, why or None, 10)


def stalled(at: float, number: int) -> Event:
    return event(at, "stalled", "learner-1: no progress for 3.0 s", life=number)


def joined(at: float, number: int, name: str = "learner-1") -> Event:
    return event(at, "joined", f"{name} joins as life {number}", life=number)


def healed(at: float, number: int) -> Event:
    return event(at, "healed", "trains from a peer", life=number)


def row(rows: list[Row], name: str = "learner-1") -> Row:
    return next(row for row in rows if row.name == name)


BEGINNING = [joined(0, 1), healed(1, 1)]
KILLED = [
    *BEGINNING,
    fault(20, "kill"),
    event(20.1, "died", "learner-1 died (SIGKILL)", learner="learner-1"),
    joined(24, 2),
    healed(25, 2),
]
TWO_LIVES = [life(1, 0, 24, "evicted", why="joined again"), life(2, 24)]


def test_a_killed_learner_is_out_until_it_joins_and_trains_once_it_is_healed() -> None:
    found = row(rows_of(KILLED, TWO_LIVES, END))
    assert found.spans == (
        Span("healing", 0, 1),
        Span("training", 1, 20),
        Span("out", 20, 24),
        Span("healing", 24, 25),
        Span("training", 25, 100),
    )
    marks = [(mark.kind, mark.at) for mark in found.marks]
    assert marks == [("fault", 20), ("joined", 24), ("healed", 25)]
    assert outages(KILLED, TWO_LIVES, END) == downtimes(KILLED, TWO_LIVES, END) == [Down("learner-1", "kill", 20, 25)]


def test_a_frozen_learner_that_is_not_given_up_goes_on_by_itself() -> None:
    stop = fault(10, "stop", seconds=5.0)
    events, lives = [*BEGINNING, stop, over(15.1, stop)], [life(1, 0)]
    assert row(rows_of(events, lives, END)).spans[1:] == (
        Span("training", 1, 10),
        Span("frozen", 10, 15.1),
        Span("training", 15.1, 100),
    )
    assert downtimes(events, lives, END) == [Down("learner-1", "stop", 10, 15)]
    assert detections(events, lives) == []


def test_a_hang_much_later_does_not_make_a_short_freeze_long() -> None:
    stop, hang = fault(10, "stop", seconds=2.0), fault(50, "hang")
    events = [*BEGINNING, stop, over(12, stop), hang, stalled(53, 1), joined(60, 2), healed(61, 2)]
    lives = [life(1, 0, 53, "evicted", why="no progress for 3.0 s"), life(2, 60)]
    assert downtimes(events, lives, END) == [Down("learner-1", "stop", 10, 12), Down("learner-1", "hang", 50, 61)]
    assert detections(events, lives) == [3.0]
    assert detections([e for e in events if e.kind != "stalled"], lives) == [], "the sentence alone says nothing"
    assert row(rows_of(events, lives, END)).spans[4:] == (
        Span("frozen", 50, 53),
        Span("out", 53, 60),
        Span("healing", 60, 61),
        Span("training", 61, 100),
    )


def test_a_frozen_learner_that_is_given_up_is_out_until_it_is_healed() -> None:
    stop = fault(10, "stop", seconds=8.0)
    events = [*BEGINNING, stop, stalled(13, 1), over(18, stop), joined(19, 2), healed(20, 2)]
    lives = [life(1, 0, 13, "evicted", why="no progress for 3.0 s"), life(2, 19)]
    assert downtimes(events, lives, END) == [Down("learner-1", "stop", 10, 20)]
    assert detections(events, lives) == [3.0]
    assert row(rows_of(events, lives, END)).spans[2:4] == (Span("frozen", 10, 13), Span("out", 13, 19))


def test_overlapping_freezes_are_one_frozen_time() -> None:
    first, second = fault(10, "stop", seconds=5.0), fault(12, "stop", seconds=5.0)
    events = [*BEGINNING, first, second, over(15, first), over(17, second)]
    frozen = [span for span in row(rows_of(events, [life(1, 0)], END)).spans if span.state == "frozen"]
    assert (frozen[0].begin, frozen[-1].end) == (10, 17)
    assert sum(span.end - span.begin for span in frozen) == 7


def test_what_only_slows_a_learner_does_not_put_it_out() -> None:
    slow = fault(10, "slow", seconds=5.0)
    events, lives = [*BEGINNING, slow, over(15, slow)], [life(1, 0)]
    found = row(rows_of(events, lives, END))
    assert found.spans == (Span("healing", 0, 1), Span("training", 1, 100))
    assert found.disturbances == (Disturbance("slow", 10, 15),)
    assert found.marks == (Mark("fault", 10, "slow"),)
    assert outages(events, lives, END) == []


@pytest.mark.parametrize(
    ("reason", "kind"), [("quarantined: it has NaN", "quarantined: it has NaN"), ("no progress for 3.0 s",) * 2]
)
def test_a_life_that_ended_without_a_fault_is_an_outage_too(reason: str, kind: str) -> None:
    events = [*BEGINNING, joined(31, 2), healed(32, 2)]
    lives = [life(1, 0, 30, "evicted", why=reason), life(2, 31)]
    assert outages(events, lives, END) == [Down("learner-1", kind, 30, 32)]
    assert downtimes(events, lives, END) == []


def test_a_death_nobody_planned_is_told_at_its_time() -> None:
    events = [
        *BEGINNING,
        event(30, "died", "learner-1 died (SIGSEGV)", learner="learner-1"),
        joined(33, 2),
        healed(34, 2),
    ]
    lives = [life(1, 0, 33, "evicted", why="joined again"), life(2, 33)]
    assert outages(events, lives, END) == [Down("learner-1", "died", 30, 34)]
    assert row(rows_of(events, lives, END)).marks[0] == Mark("fault", 30, "died")


def test_a_process_killed_because_it_was_given_up_did_not_die_a_second_time() -> None:
    events = [
        *BEGINNING,
        event(31, "died", "learner-1 died (SIGKILL)", learner="learner-1"),
        joined(33, 2),
        healed(34, 2),
    ]
    lives = [life(1, 0, 30, "evicted", why="no progress for 3.0 s"), life(2, 33)]
    assert [mark.kind for mark in row(rows_of(events, lives, END)).marks] == ["joined", "healed"]
    assert [down.begin for down in outages(events, lives, END)] == [30]


def test_a_learner_that_never_came_back_is_out_to_the_end() -> None:
    events, lives = KILLED[:4], [life(1, 0, 23, "evicted", why="no progress for 3.0 s")]
    assert row(rows_of(events, lives, END)).spans[-1] == Span("out", 20, 100)
    assert downtimes(events, lives, END) == [Down("learner-1", "kill", 20, 100)]


def test_a_learner_that_left_is_not_out() -> None:
    events = [*BEGINNING, event(40, "left", "learner-1 leaves", life=1)]
    found = row(rows_of(events, [life(1, 0, 40, "left")], END))
    assert found.spans[-1] == Span("training", 1, 40)
    assert found.marks[-1].kind == "left"


def test_the_syncer_serves_except_from_its_death_until_it_serves_again() -> None:
    events = [
        *BEGINNING,
        fault(40, "kill", SYNCER),
        event(40.1, "died", "syncer died (SIGKILL)", learner=SYNCER),
        event(43, "serving"),
    ]
    rows = rows_of(events, [life(1, 0)], END)
    assert rows[-1].name == SYNCER
    assert rows[-1].spans == (Span("training", 0, 40), Span("out", 40, 43), Span("training", 43, 100))
    assert rows[-1].marks == (Mark("fault", 40, "kill"),)
    assert downtimes(events, [life(1, 0)], END) == []


def test_a_further_shard_of_the_syncer_has_a_row_of_its_own_and_is_no_learner() -> None:
    events = [
        *BEGINNING,
        event(30, "serving"),
        event(30, "serving", shard=1),
        fault(40, "kill", "syncer-1"),
        event(43, "serving", shard=1),
    ]
    rows = rows_of(events, [life(1, 0)], END)
    assert [found.name for found in rows][-2:] == ["syncer-1", SYNCER]
    assert rows[-2].spans[-2:] == (Span("out", 40, 43), Span("training", 43, 100))
    assert rows[-1].spans[-1] == Span("training", 30, 100)
    assert downtimes(events, [life(1, 0)], END) == []


def test_while_nobody_runs_everybody_is_out_and_no_one_has_failed() -> None:
    events = [
        *BEGINNING,
        event(30, "serving"),
        event(50, "started"),
        event(52, "serving"),
        joined(54, 2),
        healed(55, 2),
    ]
    lives = [life(1, 0, 54, "evicted", why="joined again"), life(2, 54)]
    pauses = pauses_of(events, lives, signs=[33.0, 51.0])
    assert pauses == [(33.0, 50)]
    rows = rows_of(events, lives, END, pauses)
    assert row(rows).spans[1:3] == (Span("training", 1, 33), Span("out", 33, 54))
    assert row(rows, SYNCER).spans[-2:] == (Span("out", 33, 52), Span("training", 52, 100))
    assert outages(events, lives, END, pauses) == []


def test_names_are_not_taken_for_one_another() -> None:
    events = [
        joined(0, 1),
        joined(0, 2, "learner-10"),
        healed(1, 1),
        healed(1, 2),
        fault(10, "hang"),
        joined(12, 3, "learner-10"),
        healed(13, 3),
    ]
    lives = [
        life(1, 0, 15, "evicted", why="no progress for 5.0 s"),
        life(2, 0, 12, "evicted", "learner-10", "joined again"),
        life(3, 12, name="learner-10"),
    ]
    assert downtimes(events, lives, END) == [Down("learner-1", "hang", 10, END)]
    assert row(rows_of(events, lives, END)).spans[2:] == (Span("frozen", 10, 15), Span("out", 15, 100))


def test_names_are_sorted_by_their_numbers() -> None:
    assert sorted(["learner-10", "learner-2", "a", "site-b"], key=natural) == ["a", "learner-2", "learner-10", "site-b"]


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 12)), max_size=8))
def test_coverage_counts_as_counting_each_sample_does(total: int, parts: list[tuple[int, int]]) -> None:
    parts = [(first, min(samples, total - first)) for first, samples in parts if first < total]
    counts = Counter(sample for first, samples in parts for sample in range(first, first + samples))
    missing = sum(counts[sample] == 0 for sample in range(total))
    again = sum(count - 1 for count in counts.values())
    assert coverage(parts, total) == (missing, again)
