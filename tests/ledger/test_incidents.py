"""One incident a cause; what became known is added; a verdict closes it."""

from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.ledger import Evidence, EvidenceKind, IncidentState, Ledger, Severity
from tenfold.ledger.incidents import IncidentClosed, LossNotFinite, LossSpiked, ObserverFailed, RunFailed


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.start_run("train", "a", {})
    ledger.start_run("train", "b", {})
    return ledger


def test_the_same_cause_is_the_same_incident_while_it_is_open(ledger: Ledger) -> None:
    first = ledger.open_incident(RunFailed(), "disk full", run_id=1)
    assert ledger.open_incident(RunFailed(), "disk full again", run_id=1) == first
    (incident,) = ledger.incidents()
    assert (incident.message, incident.state, incident.cause) == ("disk full again", IncidentState.UPDATED, "failed")
    assert incident.updated_at >= incident.opened_at
    others = [
        ledger.open_incident(RunFailed(), "disk full", run_id=2),
        ledger.open_incident(RunFailed(), "disk full"),
        ledger.open_incident(LossNotFinite(step=7), "loss nan", run_id=1),
        ledger.open_incident(LossNotFinite(step=8), "loss nan", run_id=1),
        ledger.open_incident(ObserverFailed("band"), "KeyError", run_id=1),
    ]
    assert len({first, *others}) == 6
    assert [each.id for each in ledger.incidents(1)] == [first, *others[2:]]


def test_a_cause_that_comes_back_after_its_verdict_is_a_new_incident(ledger: Ledger) -> None:
    first = ledger.open_incident(RunFailed(), "disk full", run_id=1)
    ledger.close_incident(first, "the disk was full")
    assert ledger.open_incident(RunFailed(), "disk full", run_id=1) == first + 1
    closed, opened = ledger.incidents()
    assert (closed.state, closed.verdict, opened.state) == (
        IncidentState.CLOSED,
        "the disk was full",
        IncidentState.OPEN,
    )
    assert closed.closed_at is not None and opened.closed_at is None


def test_evidence_severity_and_a_first_verdict_are_added(ledger: Ledger) -> None:
    loss = Evidence(EvidenceKind.METRIC, "train/loss 90–100")
    samples = Evidence(EvidenceKind.SAMPLES, "640–703", "the batch")
    number = ledger.open_incident(LossNotFinite(9, 640, 703), "loss nan", run_id=1, evidence=[loss])
    ledger.update_incident(number, severity=Severity.WARNING, verdict="a bad sample?", evidence=[samples, loss])
    (incident,) = ledger.incidents()
    assert incident.evidence == (loss, samples)
    assert (incident.severity, incident.verdict, incident.message) == (Severity.WARNING, "a bad sample?", "loss nan")
    assert incident.payload == LossNotFinite(9, 640, 703)
    assert incident.to_dict()["evidence"][1] == {"kind": "samples", "where": "640–703", "note": "the batch"}


def test_what_is_closed_or_not_there_cannot_be_changed(ledger: Ledger) -> None:
    number = ledger.open_incident(RunFailed(), "disk full")
    ledger.close_incident(number, "full")
    for change in (lambda: ledger.update_incident(number, verdict="x"), lambda: ledger.close_incident(number, "x")):
        with pytest.raises(TenfoldError, match=rf"incident {number} is closed, or there is none of that number"):
            change()
    with pytest.raises(TenfoldError, match="incident 99 is closed, or there is none"):
        ledger.update_incident(99, verdict="x")
    with pytest.raises(TenfoldError, match="incident 1 is closed"):
        ledger.update_incident(1, evidence=[Evidence(EvidenceKind.FILE, "a")])
    assert ledger.incidents()[0].evidence == ()


def test_an_incident_is_closed_by_its_cause_and_run_and_may_open_again(ledger: Ledger) -> None:
    spike = LossSpiked(90, "train/loss", 5.0, 3.0, first_sample=640, last_sample=647)
    first, other = (ledger.open_incident(spike, "loss 5", run_id=run) for run in (1, 2))
    assert ledger.close_cause(IncidentClosed(spike.cause, "came back after 3 steps"), run_id=1)
    assert not ledger.close_cause(IncidentClosed(spike.cause, "again"), run_id=1)
    closed, still_open = ledger.incidents()
    assert (closed.state, closed.verdict) == (IncidentState.CLOSED, "came back after 3 steps")
    assert still_open.id == other and still_open.state == IncidentState.OPEN
    assert closed.payload == spike and spike.to_dict()["action"] == "rewind-and-skip"
    assert ledger.open_incident(spike, "loss 5", run_id=1) not in (first, other)


def test_a_detector_s_incident_is_one_for_each_kind_and_place() -> None:
    causes = {LossSpiked(1, "a").cause, LossSpiked(2, "b").cause, LossSpiked(1, "a", block="blocks.0").cause}
    assert causes == {"loss-spike", "loss-spike blocks.0"}
