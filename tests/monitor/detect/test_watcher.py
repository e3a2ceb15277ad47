"""The watcher on observers of a run, and the same detectors on what the ledger recorded of it."""

import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tenfold.core.errors import InputError
from tenfold.ledger import IncidentKind, IncidentState, Ledger
from tenfold.monitor.detect.replay import replay_detectors
from tenfold.monitor.detect.watcher import RunWatcher
from tenfold.train.journal import Journal
from tenfold.train.observe import Observers
from tenfold.train.step import StepMeasure
from tests.train.test_journal import measure

STEPS, SPIKE = 900, range(700, 708)


class Board:
    """Signals that somebody measured."""

    def __init__(self, broken_at: int | None = None) -> None:
        self.noise = np.random.default_rng(3).standard_normal((STEPS + 1, 4))
        self.broken_at = broken_at

    def values(self, step: int) -> Mapping[str, float]:
        if step == self.broken_at:
            raise OSError("no such device")
        noise = self.noise[step]
        return {"train/update_norm": math.exp(0.03 * noise[2]), "block/blocks.0/activation_rms": 1 + 0.02 * noise[3]}

    def measure(self, step: int) -> StepMeasure:
        noise = self.noise[step]
        factor = 2.0 if step in SPIKE else 1.0
        return measure(step, STEPS, nats=3 * factor * math.exp(0.02 * noise[0]), grad_norm=math.exp(0.1 * noise[1]))


def watched(ledger: Ledger, board: Board, steps: range, state: dict | None = None) -> tuple[Journal, Observers]:
    journal = Journal(ledger, "f", {})
    observers = Observers([RunWatcher(board), journal])
    if state:
        observers.load_state_dict(state)
    for step in steps:
        journal.note(step, board.values(step) if step != board.broken_at else {})
        observers.after_step(board.measure(step))
    return journal, observers


@pytest.fixture
def ledger(tmp_path: Path):  # type: ignore[no-untyped-def]
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


def test_a_spike_is_an_incident_of_the_ledger_that_is_closed_with_its_verdict(ledger: Ledger) -> None:
    journal, _ = watched(ledger, Board(), range(1, STEPS + 1))
    (incident,) = ledger.incidents(journal.run_id)
    assert incident.kind == IncidentKind.LOSS_SPIKE and incident.state == IncidentState.CLOSED
    assert incident.verdict and incident.verdict.startswith("came back after about")
    assert (
        incident.payload
        and incident.data["step"] in SPIKE
        and incident.data["first_sample"] == 8 * incident.data["step"] - 8
    )
    assert incident.evidence[0].where.startswith("train/loss 70")


def test_a_run_that_was_resumed_has_the_same_incidents(ledger: Ledger, tmp_path: Path) -> None:
    board = Board()
    _, first = watched(ledger, board, range(1, 703))
    with closing(Ledger(tmp_path / "other.sqlite")) as other:
        watched(other, board, range(703, STEPS + 1), first.state_dict())
        _, whole = watched(ledger, board, range(703, STEPS + 1), first.state_dict())
        spike, *others = ledger.incidents()
        assert spike.verdict and [incident.kind for incident in others] == [IncidentKind.KILLED]  # the first process
        assert other.incidents() == []  # there the spike was not opened, and what closes it finds nothing to close
    assert whole.state_dict()["detectors"]["cases"] == {}


def test_replay_finds_in_the_ledger_what_the_run_found(ledger: Ledger) -> None:
    journal, _ = watched(ledger, Board(), range(1, STEPS + 1))
    (incident,) = ledger.incidents(journal.run_id)
    assert journal.run_id is not None
    (found,) = replay_detectors(ledger, journal.run_id)
    assert (found.message, found.verdict) == (incident.message, incident.verdict)
    assert found.closed and found.opened in SPIKE
    empty = ledger.start_run("train", "nothing yet", {})
    with pytest.raises(InputError, match=f"run {empty} has no metrics"):
        replay_detectors(ledger, empty)


def test_a_watcher_that_fails_is_taken_out_with_an_incident_and_the_run_goes_on(ledger: Ledger) -> None:
    board = Board(broken_at=5)
    journal, observers = watched(ledger, board, range(1, 20))
    assert [type(observer) for observer in observers] == [Journal]
    (incident,) = ledger.incidents(journal.run_id)
    assert incident.kind == IncidentKind.OBSERVER_FAILED and incident.data["observer"] == "detectors"
    assert len(journal.recorded("train/loss", 19)) == 19
