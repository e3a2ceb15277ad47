"""Failures and operating time, from ledgers written as runs write them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenfold.ledger import (
    EndCause,
    EventPayload,
    FaultInjected,
    IncidentPayload,
    LearnerEnded,
    LearnerJoined,
    LearnerQuarantined,
    LearnerStalled,
    Ledger,
    LossNotFinite,
    MergeFailed,
    ProcessDied,
    RunFailed,
    RunInterrupted,
    RunKilled,
    RunResumed,
)
from tenfold.monitor.failures import AtWork, Failure, History, joined_histories, read_history

START = 1_000_000.0


class Written:
    """A ledger whose rows have chosen times."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self._db = sqlite3.connect(path, isolation_level=None)

    def close(self) -> None:
        self.ledger.close()
        self._db.close()

    def run(self, name: str = "a", ended: float | None = None, status: str = "running", kind: str = "train") -> int:
        """A run begun at 0; times are seconds after START."""
        number = self.ledger.start_run(kind, name, {})
        end = None if ended is None else START + ended
        self._db.execute(
            "UPDATE runs SET started_at = ?, finished_at = ?, status = ? WHERE id = ?", (START, end, status, number)
        )
        return number

    def event(self, at: float, what: EventPayload, run: int) -> None:
        self._db.execute(
            "INSERT INTO events (run_id, at, kind, message, data) VALUES (?, ?, ?, '', ?)",
            (run, START + at, what.kind, json.dumps(what.to_dict())),
        )

    def incident(self, at: float, what: IncidentPayload, run: int, again: float | None = None) -> None:
        number = self.ledger.open_incident(what, "", run_id=run)
        state = "open" if again is None else "updated"
        times = (START + at, START + (at if again is None else again), state, number)
        self._db.execute("UPDATE incidents SET opened_at = ?, updated_at = ?, state = ? WHERE id = ?", times)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    with closing(Written(tmp_path / "ledger.sqlite")) as made:
        yield made


def found(written: Written, now: float = 5000) -> History:
    return read_history(written.ledger, START + now)


def seen(history: History) -> list[tuple[float, str, str]]:
    return [(each.at - START, each.cause, each.who) for each in history.failures]


def times(spans: tuple[AtWork, ...]) -> list[tuple[float, float]]:
    return [(span.start - START, span.end - START) for span in spans]


def test_a_run_that_was_interrupted_did_not_fail_and_rested(written: Written) -> None:
    run = written.run(ended=3000, status="done")
    written.event(1000, RunInterrupted(10), run)
    written.event(2000, RunResumed(10), run)
    history = found(written)
    assert seen(history) == [] and times(history.running) == [(0, 1000), (2000, 3000)]


def test_a_killed_run_failed_once_however_it_is_found(written: Written) -> None:
    run = written.run()
    written.incident(1000, RunKilled(), run)
    written.event(1001, RunResumed(10), run)
    written.event(2000, RunResumed(15), run)  # killed again: the open incident is only updated
    history = found(written)
    assert seen(history) == [(1000, "killed", ""), (2000, "killed", "")]
    assert times(history.running) == [(0, 5000)]


def test_an_incident_that_came_again_counts_again(written: Written) -> None:
    run = written.run(ended=4000, status="failed")
    written.incident(1000, RunFailed(), run, again=4000)
    written.event(2000, RunResumed(10), run)
    history = found(written)
    assert seen(history) == [(1000, "failed", ""), (4000, "failed", "")]
    assert times(history.running) == [(0, 1000), (2000, 4000)]


def test_a_loss_that_is_not_finite_ends_a_run(written: Written) -> None:
    run = written.run(ended=1000, status="failed")
    written.incident(999, LossNotFinite(7), run)
    assert seen(found(written)) == [(999, "not-finite", "")]


def test_a_run_that_failed_without_an_incident_still_failed(written: Written) -> None:
    written.run(ended=1000, status="failed")
    assert seen(found(written)) == [(1000, "failed", "")]


def joined(written: Written, run: int, at: float, life: int, name: str) -> None:
    written.event(at, LearnerJoined(life, name), run)


def ended(written: Written, run: int, at: float, life: int, cause: EndCause) -> None:
    written.event(at, LearnerEnded(life, 10, 0, 1.0, {}, cause), run)


def test_a_learner_that_died_and_joined_anew_failed_once(written: Written) -> None:
    run = written.run()
    joined(written, run, 10, 1, "learner-0")
    written.event(100, ProcessDied("learner-0", "SIGKILL"), run)
    joined(written, run, 110, 2, "learner-0")
    ended(written, run, 110, 1, EndCause.REPLACED)
    history = found(written)
    assert seen(history) == [(100, "died", "learner-0")]
    assert times(history.lives) == [(10, 110), (110, 5000)]


def test_a_learner_started_by_hand_failed_when_it_was_replaced(written: Written) -> None:
    run = written.run()
    joined(written, run, 10, 1, "far")
    joined(written, run, 200, 2, "far")
    ended(written, run, 200, 1, EndCause.REJOINED)
    ended(written, run, 300, 2, EndCause.LEFT)
    assert seen(found(written)) == [(200, "died", "far")]


def test_a_stall_counts_once_and_a_quarantine_and_a_lost_merge_count(written: Written) -> None:
    run = written.run()
    joined(written, run, 10, 1, "b")
    written.event(50, LearnerQuarantined(1, 1), run)
    written.event(100, LearnerStalled(1, 30.0), run)
    ended(written, run, 100, 1, EndCause.STALLED)
    written.event(150, MergeFailed(0), run)
    causes = [(50, "quarantined", "b"), (100, "stalled", "b"), (150, "merge-failed", "")]
    assert seen(found(written)) == causes


def test_a_fault_on_purpose_is_marked(written: Written) -> None:
    run = written.run()
    written.event(90, FaultInjected("kill", "learner-0"), run)
    written.event(100, ProcessDied("learner-0"), run)
    written.event(101, ProcessDied("learner-1"), run)
    written.event(900, ProcessDied("learner-0"), run)
    history = found(written)
    assert [each.injected for each in history.failures] == [True, False, False]
    assert [each.at - START for each in history.without_injected().failures] == [101, 900]


def test_the_ladder_is_left_out_and_histories_are_joined(written: Written) -> None:
    written.run("rung", ended=10, status="failed", kind="rung")
    assert found(written) == History((), (), ())
    one = History((Failure(5, "x"),), (AtWork(0, 9),), ())
    other = History((Failure(2, "y"),), (AtWork(1, 3),), (AtWork(1, 3, "l"),))
    both = joined_histories([one, other])
    assert [each.cause for each in both.failures] == ["y", "x"] and len(both.running) == 2
