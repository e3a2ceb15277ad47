"""A ledger polled while a run writes it: only what is new is told, and trouble in one line."""

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tenfold.core import InputError, TenfoldError
from tenfold.ledger import LearnerJoined, Ledger, LossNotFinite, LossSpiked, RunResumed, RunRewound
from tenfold.monitor.page.source import LedgerWatch, News
from tests.monitor.page.ledgers import description, forecast, write_run

LOSS = "train/loss"


def losses(first: int, last: int, shift: float = 0.0) -> dict[int, dict[str, float]]:
    return {step: {LOSS: 5.0 - step / 100 + shift} for step in range(first, last + 1)}


def watched(folder: Path) -> tuple[Ledger, int, LedgerWatch]:
    """A run of 100 steps, and who watches it."""
    ledger = Ledger(folder / "ledger.sqlite")
    run = ledger.start_run("train", "f", description("small", 400))
    ledger.log(run, losses(1, 100))
    source = LedgerWatch(0, folder)
    source.poll()
    assert source.names(run) == [LOSS] and len(source.curve(run, LOSS)) == 100
    source.poll()
    return ledger, run, source


def kinds(messages: Sequence[News]) -> list[str]:
    return [message.kind for message in messages]


def rows_of(messages: Sequence[News]) -> list[dict[str, Any]]:
    return [message.data for message in messages if message.kind == "rows"]


def test_only_new_rows_are_told(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    assert source.poll() == []
    ledger.log(run, losses(101, 103))
    (rows,) = rows_of(source.poll())
    assert rows["groups"] == [{"steps": [101, 3], "values": {LOSS: [3.99, 3.98, 3.97]}}]
    assert source.poll() == []


def test_rows_that_are_many_at_once_keep_their_extremes(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.log(run, losses(101, 20_000) | {7777: {LOSS: 99.0}, 7778: {LOSS: float("nan")}})
    (rows,) = rows_of(source.poll())
    values = rows["groups"][0]["values"][LOSS]
    assert len(values) <= 402 and max(values) == 99.0
    assert source.curve(run, LOSS).last == 20_000


def test_a_resumed_run_is_told_as_a_rewind_and_only_what_changed_is_sent(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.event(RunResumed(60), "resumed at step 60", run_id=run)
    messages = source.poll()
    (rewind,) = [message.data for message in messages if message.kind == "rewind"]
    assert (rewind["step"], rewind["until"]) == (60, 100)
    assert not rows_of(messages)

    ledger.log(run, losses(61, 80))  # the same values again, as an exact resume has them
    assert not rows_of(source.poll())

    ledger.log(run, losses(81, 90, shift=1.0))
    _at_once(source, run)
    (rows,) = rows_of(source.poll())
    assert rows["replace"] and rows["groups"][0]["steps"] == [81, 20]

    ledger.log(run, losses(91, 110))
    _at_once(source, run)
    told = rows_of(source.poll())
    assert source.curve(run, LOSS).values.tolist() == [value for _, value in ledger.metric(run, LOSS)]
    assert told and source.poll() == []


def test_a_run_that_goes_back_by_itself_is_a_rewind_to_the_step_it_went_to(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.event(RunRewound(100, 40, 90, 100), "went back to step 40", run_id=run)
    told = {message.kind: message.data for message in source.poll()}
    assert (told["rewind"]["step"], told["rewind"]["until"]) == (40, 100)
    assert [(each["mark"], each["step"]) for each in told["events"]["events"]] == [("restart", 100)]


def test_what_a_detector_looked_at_is_evidence_and_its_remedy_is_what_to_do(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.open_incident(LossSpiked(90, LOSS, value=9.0, expected=4.0), "the loss jumped", run_id=run)
    (message,) = source.poll()
    incident = message.data["incident"]
    assert incident["action"] == "Go back to the last good checkpoint and leave out the batches since."
    assert [(link["kind"], link["where"]) for link in incident["evidence"]] == [("metric", f"{LOSS} 30–150")]


def _at_once(source: LedgerWatch, run: int) -> None:
    """The next look at the rewound stretch need not wait."""
    source._rewinds[run].next_look = 0.0


def test_events_and_incidents_are_told_with_their_step_and_learners(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.event(LearnerJoined(0, "a"), "a joined", run_id=run)
    number = ledger.open_incident(LossNotFinite(42), "not finite", run_id=run)
    messages = source.poll()
    assert kinds(messages) == ["events", "incident"]
    assert messages[0].data["learners"][0]["name"] == "a"
    incident = messages[1].data["incident"]
    assert (incident["step"], incident["state"]) == (42, "open") and "estimated" not in incident
    assert "tenfold data show" in incident["action"]
    ledger.close_incident(number, "the data")
    (closed,) = source.poll()
    assert closed.data["incident"]["verdict"] == "the data"


def test_a_new_run_and_a_new_metric_are_told(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.log(run, {101: {"train/grad_norm": 1.0}})
    told = {message.kind: message.data for message in source.poll()}
    assert [each["name"] for each in told["names"]["names"]] == ["train/grad_norm", LOSS]
    ledger.start_run("train", "g", {})
    (runs,) = source.poll()
    assert [each["id"] for each in runs.data["runs"]] == [run, run + 1]


def test_the_details_of_a_run_have_its_forecast_and_no_other(tmp_path: Path) -> None:
    run = write_run(tmp_path, 200)
    ledger = Ledger(tmp_path / "ledger.sqlite")
    other = ledger.start_run("train", "other", description("other", 999))
    source = LedgerWatch(0, tmp_path)
    source.poll()
    details = source.details(run)
    assert len(details["forecast"]["curve"]["bands"]) == 3
    assert [each["name"] for each in details["forecast"]["quantities"]] == ["books loss", "training loss"]
    assert source.details(other)["forecast"] is None
    assert [learner["state"] for learner in details["learners"]] == ["training"] * 4
    assert details["learners"][1]["lives"] == 2 and details["learners"][1]["steps"] == 400
    assert 0 < details["goodput"] <= 1


def test_a_forecast_that_comes_later_is_told(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    forecast(ledger, 400, description("small", 400))
    source._looked_at_forecasts -= 100
    (message,) = source.poll()
    assert (message.kind, message.data["run"]) == ("forecast", f"0.{run}")


# Trouble


def test_no_campaign_and_no_ledger_yet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no campaign here"):
        LedgerWatch(0, tmp_path / "nothing")
    (tmp_path / "campaign.toml").write_text("")
    source = LedgerWatch(0, tmp_path)
    assert source.trouble and "no ledger yet" in source.trouble
    assert source.poll() == []
    Ledger(tmp_path / "ledger.sqlite").start_run("train", "f", {})
    assert kinds(source.poll()) == ["trouble", "runs"] and source.trouble is None


def test_a_folder_that_vanishes_is_told_once_and_again_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    write_run(folder, 100)
    source = LedgerWatch(0, folder)
    source.poll()
    shutil.move(folder, tmp_path / "away")
    (message,) = source.poll()
    assert message.kind == "trouble" and message.data["line"] == f"{folder}: is gone"
    assert source.poll() == []
    shutil.move(tmp_path / "away", folder)
    assert kinds(source.poll()) == ["reset", "trouble", "runs"]


def test_a_locked_ledger_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, 50)
    locking = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    locking.execute("PRAGMA locking_mode=EXCLUSIVE")
    locking.execute("BEGIN EXCLUSIVE")
    locking.execute("DELETE FROM metrics WHERE step > 40")
    with pytest.raises(TenfoldError, match="another process is writing to it"):
        LedgerWatch(0, tmp_path)
    locking.execute("ROLLBACK")
    locking.close()
    assert LedgerWatch(0, tmp_path).poll()


def test_who_watches_and_who_writes_do_not_wait_for_each_other(tmp_path: Path) -> None:
    ledger, run, source = watched(tmp_path)
    ledger.log(run, losses(101, 102))
    with ledger._write() as db:
        db.execute("DELETE FROM metrics WHERE step > 50")
        assert rows_of(source.poll()) and source.trouble is None
        db.execute("ROLLBACK")
        db.execute("BEGIN")
    ledger.log(run, losses(103, 104))
    assert rows_of(source.poll())


def test_a_damaged_ledger_and_one_of_a_newer_version_are_refused_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "newer", 50)
    with sqlite3.connect(tmp_path / "newer" / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InputError, match="a newer tenfold wrote this ledger"):
        LedgerWatch(0, tmp_path / "newer")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "ledger.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(TenfoldError, match="put a copy of it back"):
        LedgerWatch(0, tmp_path / "damaged")


def test_a_ledger_that_is_damaged_while_it_is_watched_is_told_once(tmp_path: Path) -> None:
    _, _, source = watched(tmp_path)
    path = tmp_path / "ledger.sqlite"
    for left in tmp_path.glob("ledger.sqlite-*"):
        left.unlink()
    path.unlink()
    path.write_bytes(b"no database" * 1000)
    (message,) = source.poll()
    assert message.kind == "trouble" and "cannot" in message.data["line"]
    assert source.poll() == []


def test_watching_writes_nothing(tmp_path: Path) -> None:
    write_run(tmp_path, 100)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    source = LedgerWatch(0, tmp_path)
    source.poll()
    source.details(1)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if not path.name.endswith("-shm")}
    assert {name: content for name, content in after.items() if content} == before
    source.close()
