"""The ledger: many writers, readers while they write, forecasts never rewritten."""

import multiprocessing
from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.ledger import Ledger
from tenfold.ledger.events import RunResumed
from tenfold.ledger.incidents import LossNotFinite

WRITERS, STEPS = 4, 25


def _write_steps(path: Path, writer: int) -> None:
    ledger = Ledger(path)
    run = ledger.start_run("train", f"run-{writer}", {})
    for step in range(STEPS):
        ledger.log(run, {step: {"train/loss": float(writer)}})


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_steps, args=(path, writer)) for writer in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    reader = Ledger(path, read_only=True)
    runs = {run.fingerprint: run.id for run in reader.runs()}
    for writer in range(WRITERS):
        assert reader.metric(runs[f"run-{writer}"], "train/loss") == [(step, float(writer)) for step in range(STEPS)]


def test_reading_while_a_transaction_is_open_sees_the_last_committed_state(tmp_path: Path) -> None:
    writer = Ledger(tmp_path / "ledger.sqlite")
    run = writer.start_run("train", "f", {"seed": 1})
    writer.log(run, {1: {"train/loss": 2.0}})
    reader = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    with writer._write() as db:
        db.execute("DELETE FROM metrics")
        assert reader.metric(run, "train/loss") == [(1, 2.0)]
    assert reader.metric(run, "train/loss") == []


def test_a_step_repeated_after_a_crash_replaces_what_it_wrote(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    run = ledger.start_run("train", "f", {})
    ledger.log(run, {1: {"train/loss": 3.0}, 2: {"train/loss": 9.0}})
    assert ledger.start_run("train", "f", {}) == run
    ledger.log(run, {2: {"train/loss": 2.0}})
    assert ledger.metric(run, "train/loss") == [(1, 3.0), (2, 2.0)]


def test_a_forecast_is_settled_but_never_rewritten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.predict("final loss", "nats/token", 2.5, {"0.8": (2.4, 2.6)}, {"rungs": 6})
    with pytest.raises(TenfoldError, match="final loss has been forecast already"):
        ledger.predict("final loss", "nats/token", 2.6, {}, {})
    ledger.settle("final loss", 2.55)
    (prediction,) = ledger.predictions()
    assert (prediction.median, prediction.outcome, prediction.intervals["0.8"]) == (2.5, 2.55, [2.4, 2.6])


def test_a_file_that_is_no_ledger_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(TenfoldError, match=r"cannot open the ledger \(file is not a database\); put a copy of it"):
        Ledger(path)


def test_events_and_incidents_keep_their_data(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.event(RunResumed(step=3), "resumed at step 3")
    assert ledger.open_incident(LossNotFinite(step=4), "loss nan") == 1
    (event,) = ledger.events()
    assert (event.kind, event.data, event.payload) == ("resumed", {"step": 3}, RunResumed(3))
