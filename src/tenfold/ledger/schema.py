"""The tables of a ledger and how those of older versions become these.

The file's `PRAGMA user_version` is its schema version; 0 is a ledger from before there were versions. A migration leads
to one version, in order, and is never changed once it was released.
"""

import logging
import sqlite3
from pathlib import Path

from tenfold.core import LOGGER, InputError, TenfoldError

BASELINE = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, fingerprint TEXT NOT NULL, description TEXT NOT NULL,
    started_at REAL NOT NULL, finished_at REAL, status TEXT NOT NULL, UNIQUE (kind, fingerprint));
CREATE TABLE IF NOT EXISTS metrics (
    run_id INTEGER NOT NULL REFERENCES runs, name TEXT NOT NULL, step INTEGER NOT NULL, value REAL,
    PRIMARY KEY (run_id, name, step)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, at REAL NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS predictions (
    id INTEGER PRIMARY KEY, quantity TEXT NOT NULL UNIQUE, unit TEXT NOT NULL, median REAL NOT NULL,
    intervals TEXT NOT NULL, basis TEXT NOT NULL, registered_at REAL NOT NULL,
    outcome REAL, settled_at REAL);
CREATE TABLE IF NOT EXISTS incidents (
    id INTEGER PRIMARY KEY, run_id INTEGER REFERENCES runs, opened_at REAL NOT NULL, kind TEXT NOT NULL,
    message TEXT NOT NULL, data TEXT NOT NULL, verdict TEXT, closed_at REAL);
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, recipe TEXT NOT NULL, description TEXT NOT NULL,
    set_keys TEXT NOT NULL, stack TEXT NOT NULL, assessment TEXT NOT NULL, stack_check TEXT NOT NULL,
    decided_at REAL NOT NULL, UNIQUE (name, recipe));
"""
INCIDENTS_HAVE_STATES = """
ALTER TABLE incidents ADD COLUMN severity TEXT NOT NULL DEFAULT 'critical';
ALTER TABLE incidents ADD COLUMN state TEXT NOT NULL DEFAULT 'open';
ALTER TABLE incidents ADD COLUMN cause TEXT;
ALTER TABLE incidents ADD COLUMN evidence TEXT NOT NULL DEFAULT '[]';
ALTER TABLE incidents ADD COLUMN updated_at REAL;
UPDATE incidents SET state = 'closed' WHERE closed_at IS NOT NULL;
CREATE UNIQUE INDEX one_incident_a_cause ON incidents (coalesce(run_id, 0), cause) WHERE state != 'closed';
"""
MIGRATIONS = (BASELINE, INCIDENTS_HAVE_STATES)
"""The script that leads to version 1, 2, …"""
VERSION = len(MIGRATIONS)

TABLES = {
    "runs": "every run: kind, fingerprint, what it is made of, when it began and ended, status",
    "metrics": "figures by run, name and step",
    "events": "what happened, when, in a sentence and as typed data",
    "predictions": "forecasts with intervals, registered before they are measured, and what came",
    "incidents": "what looked wrong, its state, evidence and verdict; one open incident for each cause",
    "changes": "changes of the recipe and what they were found to be worth",
}

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def version_of(db: sqlite3.Connection) -> int:
    """Schema version of an open database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def refuse_strangers(db: sqlite3.Connection, path: Path) -> None:
    """Raises InputError for a ledger of a newer version and for a database that is no ledger."""
    version = version_of(db)
    if version > VERSION:
        raise InputError(
            f"{path}: a newer tenfold wrote this ledger (version {version}, this one reads up to {VERSION}); "
            "install that tenfold again"
        )
    tables = {str(name) for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and "runs" not in tables:
        raise InputError(f"{path}: a database of something else, no ledger; name another file or move it away")


def migrate(db: sqlite3.Connection, path: Path, *, quiet: bool = False) -> None:
    """Bring an open ledger to this version in one transaction, with one line on the console if it was an older one."""
    if version_of(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
    try:
        before = version_of(db)
        was_empty = not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        for script in MIGRATIONS[before:]:
            for statement in filter(str.strip, script.split(";")):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    if before < VERSION and not (was_empty or quiet):
        logging.getLogger(LOGGER).info("%s: ledger brought from version %d to %d", path, before, VERSION)


def migrated_copy(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """An older ledger that is only read, as it would be in this version; the file stays as it is."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    db.backup(copy)
    db.close()
    migrate(copy, path, quiet=True)
    return copy


def explained(path: Path, what: str, error: sqlite3.Error) -> TenfoldError:
    """One line for an error of SQLite, with the remedy. `what` could not be done: "open the ledger"."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes keep the kind in their last byte
    remedies: tuple[tuple[tuple[int, ...], str], ...] = (
        (BUSY, "; another process is writing to it: wait for it, then run again"),
        (DAMAGED, "; put a copy of it back, or move it away to begin a new one"),
        (FULL, "; make room, then run again"),
        (
            (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN),
            "; allow writing it, its -wal and -shm, and its folder",
        ),
    )
    remedy = next((remedy for codes, remedy in remedies if code in codes), "")
    return TenfoldError(f"{path}: cannot {what} ({error}){remedy}")
