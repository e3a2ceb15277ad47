"""The ledger: one SQLite file per campaign, written by many processes and read while they write."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.core.errors import TenfoldError

BUSY_TIMEOUT_S = 30.0  # a writer waits this long for another one's transaction

SCHEMA = """
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


@dataclass(frozen=True)
class Run:
    """One run as the ledger knows it. Times are seconds since the epoch.

    Status is running, done, interrupted or failed.
    """

    id: int
    kind: str
    fingerprint: str
    description: dict[str, Any]
    started_at: float
    finished_at: float | None
    status: str


@dataclass(frozen=True)
class Event:
    """Something that happened at one moment of a run."""

    run_id: int | None
    at: float
    kind: str
    message: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """A forecast, registered before it is measured. `intervals` maps a level ("0.8") to [low, high]."""

    quantity: str
    unit: str
    median: float
    intervals: dict[str, tuple[float, float]]
    basis: dict[str, Any]
    registered_at: float = 0.0
    outcome: float | None = None
    settled_at: float | None = None

    @property
    def error(self) -> float | None:
        """(measured − forecast) / forecast, once it is settled."""
        return None if self.outcome is None else self.outcome / self.median - 1


@dataclass(frozen=True)
class TriedChange:
    """A change of the recipe and what it was found to be worth.

    `recipe` hashes the campaign it changes and the corpus; `set` maps dotted keys of campaign.toml to values; `stack`
    names the changes it was tried on top of. `stack_check` compares the product of what each was worth alone with this
    assessment; None without a stack, or where one of them was never tried alone.
    """

    name: str
    recipe: str
    description: str
    set: dict[str, Any]
    stack: list[str]
    assessment: dict[str, Any]
    stack_check: dict[str, Any] | None
    decided_at: float


class Ledger:
    """The campaign's memory. Every method is one transaction; open one Ledger per process."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the ledger at `path`, creating it unless `read_only`. Raises TenfoldError if it cannot be opened."""
        self.path = path
        mode = "ro" if read_only else "rwc"
        try:
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
            )
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(SCHEMA)
            self._db.execute("SELECT count(*) FROM runs")  # connecting alone does not read the file
        except sqlite3.Error as error:
            raise TenfoldError(f"{path}: cannot open the ledger ({error})") from error

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One immediate transaction: it waits for other writers instead of failing halfway."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise TenfoldError(f"{self.path}: cannot write to the ledger ({error})") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def start_run(self, kind: str, fingerprint: str, description: Mapping[str, Any]) -> int:
        """Open the run of this kind and fingerprint, or reopen it when it is being resumed. Returns its id."""
        with self._write() as db:
            db.execute(
                "INSERT INTO runs (kind, fingerprint, description, started_at, status) VALUES (?, ?, ?, ?, 'running') "
                "ON CONFLICT (kind, fingerprint) DO UPDATE SET status = 'running', finished_at = NULL",
                (kind, fingerprint, json.dumps(description, sort_keys=True), time.time()),
            )
            row = db.execute("SELECT id FROM runs WHERE kind = ? AND fingerprint = ?", (kind, fingerprint)).fetchone()
        return int(row[0])

    def inherit_metrics(self, run_id: int, fingerprint: str, up_to_step: int) -> None:
        """Give a run the metrics of the run it goes on from, which had other code or numerics."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO metrics SELECT ?, name, step, value FROM metrics "
                "WHERE step <= ? AND run_id = (SELECT id FROM runs WHERE fingerprint = ? AND kind = "
                "(SELECT kind FROM runs WHERE id = ?))",
                (run_id, up_to_step, fingerprint, run_id),
            )

    def finish_run(self, run_id: int, status: str = "done") -> None:
        """Close a run as `done`, `failed` or `interrupted`."""
        with self._write() as db:
            db.execute("UPDATE runs SET status = ?, finished_at = ? WHERE id = ?", (status, time.time(), run_id))

    def log(self, run_id: int, values: Mapping[int, Mapping[str, float]]) -> None:
        """Write metrics, step → name → value. A step repeated after a crash replaces what it wrote before.

        NaN is kept as such (SQLite has no NaN and stores NULL).
        """
        rows = [(run_id, name, step, float(value)) for step, named in values.items() for name, value in named.items()]
        with self._write() as db:
            db.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", rows)

    def event(self, kind: str, message: str, *, run_id: int | None = None, **data: Any) -> None:
        """Note that something happened."""
        with self._write() as db:
            db.execute(
                "INSERT INTO events (run_id, at, kind, message, data) VALUES (?, ?, ?, ?, ?)",
                (run_id, time.time(), kind, message, json.dumps(data, sort_keys=True)),
            )

    def predict(
        self,
        quantity: str,
        unit: str,
        median: float,
        intervals: Mapping[str, tuple[float, float]],
        basis: Mapping[str, Any],
    ) -> None:
        """Register a forecast. Raises TenfoldError if `quantity` has one already: forecasts are never rewritten."""
        self.predict_together([Prediction(quantity, unit, median, dict(intervals), dict(basis))])

    def predict_together(self, predictions: Sequence[Prediction]) -> None:
        """Register forecasts that belong together: all of them or, where one has been made already, none."""
        with self._write() as db:
            for p in predictions:
                if db.execute("SELECT 1 FROM predictions WHERE quantity = ?", (p.quantity,)).fetchone():
                    raise TenfoldError(
                        f"{self.path}: {p.quantity} has been forecast already; a forecast is never rewritten"
                    )
                db.execute(
                    "INSERT INTO predictions (quantity, unit, median, intervals, basis, registered_at) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        p.quantity,
                        p.unit,
                        p.median,
                        json.dumps(p.intervals),
                        json.dumps(p.basis, sort_keys=True),
                        time.time(),
                    ),
                )

    def settle(self, quantity: str, outcome: float) -> None:
        """Write what really happened beside the forecast of `quantity`, once.

        Raises TenfoldError when nothing was forecast, or when the forecast is settled with another outcome.
        """
        with self._write() as db:
            row = db.execute("SELECT outcome FROM predictions WHERE quantity = ?", (quantity,)).fetchone()
            if row is None:
                raise TenfoldError(f"{self.path}: {quantity} was never forecast, so it cannot be settled")
            if row[0] is not None and row[0] != outcome:
                raise TenfoldError(f"{self.path}: {quantity} is settled as {row[0]:.6g} already, not {outcome:.6g}")
            db.execute(
                "UPDATE predictions SET outcome = ?, settled_at = ? WHERE quantity = ? AND outcome IS NULL",
                (outcome, time.time(), quantity),
            )

    def record_change(self, change: TriedChange) -> None:
        """Keep what a change was found to be worth; one of the same name and recipe is replaced."""
        columns = (change.set, change.stack, change.assessment, change.stack_check)
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO changes "
                "(name, recipe, description, set_keys, stack, assessment, stack_check, decided_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (change.name, change.recipe, change.description, *map(json.dumps, columns), change.decided_at),
            )

    def changes(self) -> list[TriedChange]:
        """Every change tried, in the order of the decisions. None in a ledger older than this table."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
            return []
        rows = self._db.execute(
            "SELECT name, recipe, description, set_keys, stack, assessment, stack_check, decided_at "
            "FROM changes ORDER BY id"
        )
        return [
            TriedChange(n, r, d, json.loads(s), json.loads(st), json.loads(a), json.loads(c), at)
            for n, r, d, s, st, a, c, at in rows
        ]

    def open_incident(self, kind: str, message: str, *, run_id: int | None = None, **data: Any) -> int:
        """Record that something looks wrong and wants an explanation. Returns the incident's id."""
        with self._write() as db:
            cursor = db.execute(
                "INSERT INTO incidents (run_id, opened_at, kind, message, data) VALUES (?, ?, ?, ?, ?)",
                (run_id, time.time(), kind, message, json.dumps(data, sort_keys=True)),
            )
        return int(cursor.lastrowid or 0)

    def incidents(self, run_id: int | None = None) -> list[Event]:
        """What looked wrong, of one run or of all, in order."""
        where, values = ("", ()) if run_id is None else ("WHERE run_id = ?", (run_id,))
        rows = self._db.execute(
            f"SELECT run_id, opened_at, kind, message, data FROM incidents {where} ORDER BY id", values
        )
        return [Event(r, at, kind, message, json.loads(data)) for r, at, kind, message, data in rows]

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        rows = self._db.execute(
            "SELECT id, kind, fingerprint, description, started_at, finished_at, status FROM runs ORDER BY id"
        )
        return [Run(i, k, f, json.loads(d), s, e, st) for i, k, f, d, s, e, st in rows]

    def metric(self, run_id: int, name: str) -> list[tuple[int, float]]:
        """(step, value) of one metric, in order of step."""
        rows = self._db.execute(
            "SELECT step, value FROM metrics WHERE run_id = ? AND name = ? ORDER BY step", (run_id, name)
        )
        return [(int(step), math.nan if value is None else float(value)) for step, value in rows]

    def metric_names(self, run_id: int) -> list[str]:
        """Names of the metrics a run has."""
        rows = self._db.execute("SELECT DISTINCT name FROM metrics WHERE run_id = ? ORDER BY name", (run_id,))
        return [str(name) for (name,) in rows]

    def events(self, run_id: int | None = None) -> list[Event]:
        """Events of one run, or all of them, oldest first."""
        where, values = ("WHERE run_id = ?", (run_id,)) if run_id is not None else ("", ())
        rows = self._db.execute(f"SELECT run_id, at, kind, message, data FROM events {where} ORDER BY id", values)
        return [Event(r, at, kind, message, json.loads(data)) for r, at, kind, message, data in rows]

    def predictions(self) -> list[Prediction]:
        """Every forecast, in the order of registration."""
        rows = self._db.execute(
            "SELECT quantity, unit, median, intervals, basis, registered_at, outcome, settled_at "
            "FROM predictions ORDER BY id"
        )
        return [Prediction(q, u, m, json.loads(i), json.loads(b), r, o, s) for q, u, m, i, b, r, o, s in rows]
