"""Ledgers of older versions are migrated, of newer ones refused; what is no ledger or cannot be opened is one line."""

import sqlite3
import threading
from pathlib import Path

import pytest

from tenfold.core.console import run_console
from tenfold.core.errors import InputError, TenfoldError
from tenfold.ledger import Ledger, schema, store
from tenfold.ledger.events import LearnerJoined, RunResumed
from tenfold.ledger.incidents import IncidentState, RunFailed, Severity

# As the last release without schema versions made it, in the middle of a run of several learners.
BEFORE = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, fingerprint TEXT NOT NULL, description TEXT NOT NULL,
    started_at REAL NOT NULL, finished_at REAL, status TEXT NOT NULL, UNIQUE (kind, fingerprint));
CREATE TABLE metrics (
    run_id INTEGER NOT NULL REFERENCES runs, name TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (run_id, name, step)) WITHOUT ROWID;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, at REAL NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE predictions (
    id INTEGER PRIMARY KEY, quantity TEXT NOT NULL UNIQUE, unit TEXT NOT NULL, median REAL NOT NULL,
    intervals TEXT NOT NULL, basis TEXT NOT NULL, registered_at REAL NOT NULL,
    outcome REAL, settled_at REAL);
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, opened_at REAL NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL, verdict TEXT, closed_at REAL);
CREATE TABLE changes (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, recipe TEXT NOT NULL, description TEXT NOT NULL,
    set_keys TEXT NOT NULL, stack TEXT NOT NULL, assessment TEXT NOT NULL, stack_check TEXT NOT NULL,
    decided_at REAL NOT NULL, UNIQUE (name, recipe));
INSERT INTO runs VALUES (1, 'train', 'abc', '{"name": "quickstart"}', 1000.0, NULL, 'failed');
INSERT INTO metrics VALUES (1, 'train/loss', 1, 5.5), (1, 'train/loss', 2, NULL), (1, 'train/own', 2, 1.0);
INSERT INTO events VALUES (1, 1, 1001.0, 'joined', 'learner-0 joins as life 1', '{"life": 1}');
INSERT INTO events VALUES (2, 1, 1002.0, 'resumed', 'resumed at step 2', '{"step": 2}');
INSERT INTO events VALUES (3, 1, 1003.0, 'forgotten-kind', 'of long ago', '{"x": 1}');
INSERT INTO predictions VALUES (1, 'aaa loss', 'nats/token', 2.5, '{"0.8": [2.4, 2.6]}', '{}', 900.0, NULL, NULL);
INSERT INTO incidents VALUES (1, 1, 1004.0, 'failed', 'disk full', '{}', NULL, NULL);
INSERT INTO incidents VALUES (2, 1, 1005.0, 'failed', 'disk full', '{}', NULL, NULL);
"""


def ledger_of_before(folder: Path, script: str = BEFORE) -> Path:
    path = folder / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript(script)
    db.close()
    return path


def version(path: Path) -> int:
    with sqlite3.connect(path) as db:
        found = schema.version_of(db)
    db.close()
    return found


def check_content(ledger: Ledger) -> None:
    (run,) = ledger.runs()
    assert (run.fingerprint, run.description, run.status) == ("abc", {"name": "quickstart"}, "failed")
    assert [step for step, _ in ledger.metric(1, "train/loss")] == [1, 2]
    assert [event.payload for event in ledger.events()] == [LearnerJoined(1, None), RunResumed(2), None]
    assert ledger.events()[2].data == {"x": 1}
    first, second = ledger.incidents()
    assert (first.message, first.state, first.severity) == ("disk full", IncidentState.OPEN, Severity.CRITICAL)
    assert (second.opened_at, second.updated_at, second.payload) == (1005.0, 1005.0, RunFailed())
    assert [prediction.quantity for prediction in ledger.predictions()] == ["aaa loss"]
    assert ledger.changes() == []


def test_a_ledger_of_before_is_migrated_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ledger_of_before(tmp_path)
    with run_console():
        ledger = Ledger(path)
    assert capsys.readouterr().err == f"{path}: ledger brought from version 0 to {schema.VERSION}\n"
    check_content(ledger)
    assert ledger.open_incident(RunFailed(), "again", run_id=1) == 3
    assert ledger.start_run("train", "abc", {}) == 1
    ledger.close()
    assert version(path) == schema.VERSION
    with run_console():
        Ledger(path).close()
    assert capsys.readouterr().err == ""


def test_one_without_the_table_of_changes_is_migrated_too(tmp_path: Path) -> None:
    head, _, tail = BEFORE.partition("CREATE TABLE changes")
    path = ledger_of_before(tmp_path, head + tail.partition(";")[2])
    check_content(Ledger(path, read_only=True))
    check_content(Ledger(path))


def test_reading_a_ledger_of_before_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = ledger_of_before(tmp_path)
    before = path.read_bytes()
    ledger = Ledger(path, read_only=True)
    check_content(ledger)
    ledger.close()
    assert path.read_bytes() == before


def test_a_new_ledger_is_of_this_version_and_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with run_console():
        Ledger(tmp_path / "ledger.sqlite").close()
    assert capsys.readouterr().err == ""
    assert version(tmp_path / "ledger.sqlite") == schema.VERSION


def test_many_threads_that_open_a_ledger_of_before_migrate_it_once(tmp_path: Path) -> None:
    path = ledger_of_before(tmp_path)
    failed: list[Exception] = []

    def open_it() -> None:
        try:
            Ledger(path).close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    check_content(Ledger(path))


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ledger_of_before(tmp_path)
    broken = (*schema.MIGRATIONS, "CREATE TABLE extra (x); CREATE TABLE runs (x)")
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    monkeypatch.setattr(schema, "VERSION", len(broken))
    with pytest.raises(TenfoldError, match=r"cannot open the ledger \(table runs already exists\)"):
        Ledger(path)
    monkeypatch.undo()
    assert version(path) == 0
    check_content(Ledger(path))


@pytest.mark.parametrize("read_only", [True, False])
def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    with pytest.raises(InputError) as caught:
        Ledger(path, read_only=read_only)
    assert str(caught.value) == (
        f"{path}: a newer tenfold wrote this ledger (version {schema.VERSION + 1}, this one reads up to "
        f"{schema.VERSION}); install that tenfold again"
    )


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = ledger_of_before(tmp_path, "CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"ledger\.sqlite: a database of something else, no ledger"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_damaged_page_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    run = ledger.start_run("train", "f", {})
    ledger.log(run, {step: {"train/loss": 1.0} for step in range(5000)})
    ledger.close()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(
        TenfoldError, match=r"ledger\.sqlite: cannot (open|read) the ledger \(.*\); put a copy of it back"
    ):
        Ledger(path, read_only=True).metric(run, "train/loss")


def test_a_ledger_that_another_process_keeps_locked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        TenfoldError,
        match=r"cannot write to the ledger \(database is locked\); another process is writing to it: wait for it",
    ):
        ledger.start_run("train", "f", {})
    other.execute("ROLLBACK")
    other.close()
    assert ledger.start_run("train", "f", {}) == 1


def test_a_folder_that_is_not_there_and_a_missing_ledger_are_one_line(tmp_path: Path) -> None:
    for path, read_only in ((tmp_path / "gone" / "ledger.sqlite", False), (tmp_path / "ledger.sqlite", True)):
        with pytest.raises(TenfoldError, match=r"ledger\.sqlite: cannot open the ledger \(unable to open"):
            Ledger(path, read_only=read_only)
