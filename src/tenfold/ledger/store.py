"""The ledger: one SQLite file per campaign, written by many processes and read while they write."""

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenfold.core import TenfoldError
from tenfold.ledger.events import Event, EventPayload
from tenfold.ledger.incidents import (
    Evidence,
    Incident,
    IncidentClosed,
    IncidentPayload,
    IncidentState,
    RunKilled,
    Severity,
)
from tenfold.ledger.metrics import metric_of
from tenfold.ledger.records import Prediction, Run, TriedChange
from tenfold.ledger.schema import VERSION, explained, migrate, migrated_copy, refuse_strangers, version_of

BUSY_TIMEOUT_S = 30.0  # a writer waits this long for another one's transaction
INCIDENT_COLUMNS = (
    "id, run_id, kind, severity, state, cause, message, data, evidence, verdict, opened_at, updated_at, closed_at"
)


class Ledger:
    """The campaign's memory. Every method is one transaction; open one Ledger per process."""

    def __init__(self, path: Path, *, read_only: bool = False, patience_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the ledger at `path`, creating it or bringing it to this version unless `read_only`.

        `patience_s`: how long to wait for another process's transaction.
        Raises TenfoldError when it cannot be opened, InputError when a newer tenfold wrote it or it is no ledger.
        """
        self.path, self._patience_s = path, patience_s
        try:
            self._db = self._connected("ro" if read_only else "rwc")
            refuse_strangers(self._db, path)
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                migrate(self._db, path)
            elif version_of(self._db) < VERSION:
                self._db = migrated_copy(self._db, path)
            self._db.execute("SELECT count(*) FROM runs")  # connecting alone does not read the file
        except sqlite3.Error as error:
            raise explained(path, "open the ledger", error) from error

    def _connected(self, mode: str) -> sqlite3.Connection:
        where = f"{self.path.resolve().as_uri()}?mode={mode}"
        return sqlite3.connect(where, uri=True, timeout=self._patience_s, isolation_level=None)

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
            raise explained(self.path, "write to the ledger", error) from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _read(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise explained(self.path, "read the ledger", error) from error

    # Runs and their metrics

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

    def close_killed(self, kind: str, fingerprint: str) -> bool:
        """Close the run as failed, with an incident, if its process ended without a word; whether it had.

        Only for who knows that no process is at work on it: the one that starts it again.
        """
        rows = self._read(
            "SELECT id FROM runs WHERE kind = ? AND fingerprint = ? AND status = 'running'", (kind, fingerprint)
        )
        for (run_id,) in rows:
            message = "the process of this run ended without a word (killed, or its machine lost); it is begun again"
            self.open_incident(RunKilled(), message, run_id=int(run_id))
            self.finish_run(int(run_id), "failed")
        return bool(rows)

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

        NaN is kept as such (SQLite has no NaN and stores NULL). Raises ValueError for a name that is no metric.
        """
        for name in {name for named in values.values() for name in named}:
            metric_of(name)
        rows = [(run_id, name, step, float(value)) for step, named in values.items() for name, value in named.items()]
        with self._write() as db:
            db.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)", rows)

    # Events and incidents

    def event(self, what: EventPayload, message: str, *, run_id: int | None = None) -> None:
        """Note that something happened: `what` for programs, `message` for people."""
        with self._write() as db:
            db.execute(
                "INSERT INTO events (run_id, at, kind, message, data) VALUES (?, ?, ?, ?, ?)",
                (run_id, time.time(), what.kind, message, _json(what.to_dict())),
            )

    def events(self, run_id: int | None = None, *, after: int = 0) -> list[Event]:
        """Events of one run, or all of them, oldest first; `after`: only those of a higher id."""
        where, values = ("AND run_id = ?", (after, run_id)) if run_id is not None else ("", (after,))
        rows = self._read(
            f"SELECT run_id, at, kind, message, data, id FROM events WHERE id > ? {where} ORDER BY id", values
        )
        return [Event(r, at, kind, message, json.loads(data), i) for r, at, kind, message, data, i in rows]

    def open_incident(
        self, what: IncidentPayload, message: str, *, run_id: int | None = None, evidence: Sequence[Evidence] = ()
    ) -> int:
        """Record that something looks wrong and wants an explanation. Returns the incident's id.

        Where an incident of this run and cause is open already, that one is updated instead.
        """
        now = time.time()
        with self._write() as db:
            found = _open_incident(db, run_id, what.cause)
            if found:
                self._change(db, found, message=message, data=_json(what.to_dict()), severity=what.severity)
                self._attach(db, found, evidence)
                return found
            cursor = db.execute(
                "INSERT INTO incidents (run_id, opened_at, updated_at, kind, severity, state, cause, message, data) "
                "VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?)",
                (run_id, now, now, what.kind, what.severity, what.cause, message, _json(what.to_dict())),
            )
            number = int(cursor.lastrowid or 0)
            self._attach(db, number, evidence)
        return number

    def update_incident(
        self,
        number: int,
        *,
        message: str | None = None,
        severity: Severity | None = None,
        verdict: str | None = None,
        evidence: Sequence[Evidence] = (),
    ) -> None:
        """Add what became known. Raises TenfoldError when there is no such incident or it is closed."""
        with self._write() as db:
            self._attach(db, number, evidence)
            self._change(db, number, message=message, severity=severity, verdict=verdict)

    def close_incident(self, number: int, verdict: str) -> None:
        """Settle an incident with the explanation found. Raises TenfoldError when there is none or it is closed."""
        with self._write() as db:
            self._change(db, number, verdict=verdict, state=IncidentState.CLOSED, closed_at=time.time())

    def close_cause(self, what: IncidentClosed, *, run_id: int | None = None) -> bool:
        """Settle the open incident of this run and cause; whether there was one."""
        with self._write() as db:
            found = _open_incident(db, run_id, what.cause)
            if found:
                self._change(db, found, verdict=what.verdict, state=IncidentState.CLOSED, closed_at=time.time())
        return found is not None

    def _change(self, db: sqlite3.Connection, number: int, **columns: Any) -> None:
        """Set columns of an incident that is not closed; those that are None stay."""
        given = {"state": IncidentState.UPDATED, "updated_at": time.time()}
        given |= {name: value for name, value in columns.items() if value is not None}
        settings = ", ".join(f"{name} = ?" for name in given)
        done = db.execute(
            f"UPDATE incidents SET {settings} WHERE id = ? AND state != 'closed'", (*given.values(), number)
        )
        if not done.rowcount:
            raise TenfoldError(f"{self.path}: incident {number} is closed, or there is none of that number")

    def _attach(self, db: sqlite3.Connection, number: int, evidence: Sequence[Evidence]) -> None:
        """Add links that it does not have yet."""
        row = db.execute("SELECT evidence FROM incidents WHERE id = ?", (number,)).fetchone()
        known = json.loads(row[0]) if row else []
        known += [link for each in evidence if (link := asdict(each)) not in known]
        db.execute("UPDATE incidents SET evidence = ? WHERE id = ?", (json.dumps(known), number))

    def incidents(self, run_id: int | None = None) -> list[Incident]:
        """What looked wrong, of one run or of all, in order of id."""
        where, values = ("", ()) if run_id is None else ("WHERE run_id = ?", (run_id,))
        return [
            _incident(row)
            for row in self._read(f"SELECT {INCIDENT_COLUMNS} FROM incidents {where} ORDER BY id", values)
        ]

    # Forecasts and changes

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
        """Every change tried, in the order of the decisions."""
        rows = self._read(
            "SELECT name, recipe, description, set_keys, stack, assessment, stack_check, decided_at "
            "FROM changes ORDER BY id"
        )
        return [
            TriedChange(n, r, d, json.loads(s), json.loads(st), json.loads(a), json.loads(c), at)
            for n, r, d, s, st, a, c, at in rows
        ]

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        rows = self._read(
            "SELECT id, kind, fingerprint, description, started_at, finished_at, status FROM runs ORDER BY id"
        )
        return [Run(i, k, f, json.loads(d), s, e, st) for i, k, f, d, s, e, st in rows]

    def metric(self, run_id: int, name: str) -> list[tuple[int, float]]:
        """(step, value) of one metric, in order of step."""
        rows = self._read("SELECT step, value FROM metrics WHERE run_id = ? AND name = ? ORDER BY step", (run_id, name))
        return [(int(step), math.nan if value is None else float(value)) for step, value in rows]

    def columns(self, run_id: int, name: str, *, after: int = -1) -> tuple[Sequence[int], Sequence[float | None]]:
        """Steps beyond `after` and values of one metric, in order of step: for many rows at once. None is NaN."""
        rows = self._read(
            "SELECT step, value FROM metrics WHERE run_id = ? AND name = ? AND step > ? ORDER BY step",
            (run_id, name, after),
        )
        steps, values = zip(*rows, strict=True) if rows else ((), ())
        return steps, values

    def newest(self, run_id: int) -> dict[str, tuple[int, float]]:
        """The last step that each metric of a run has, and its value; quick however many steps there are."""
        last = "SELECT step, value FROM metrics WHERE run_id = ? AND name = ? ORDER BY step DESC LIMIT 1"
        rows = ((name, *self._read(last, (run_id, name))[0]) for name in self.metric_names(run_id))
        return {name: (int(step), math.nan if value is None else float(value)) for name, step, value in rows}

    def metric_names(self, run_id: int) -> list[str]:
        """Names of the metrics a run has: found by jumping from one to the next, without reading their rows."""
        rows = self._read(
            "WITH RECURSIVE names(name) AS (SELECT min(name) FROM metrics WHERE run_id = :run UNION ALL "
            "SELECT (SELECT min(name) FROM metrics WHERE run_id = :run AND name > names.name) FROM names "
            "WHERE names.name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL",
            {"run": run_id},
        )
        return [str(name) for (name,) in rows]

    def version(self) -> int:
        """A number that another process's commit changes: what to look at before reading again."""
        return int(self._read("PRAGMA data_version")[0][0])

    def predictions(self) -> list[Prediction]:
        """Every forecast, in the order of registration."""
        rows = self._read(
            "SELECT quantity, unit, median, intervals, basis, registered_at, outcome, settled_at "
            "FROM predictions ORDER BY id"
        )
        return [Prediction(q, u, m, json.loads(i), json.loads(b), r, o, s) for q, u, m, i, b, r, o, s in rows]


def _open_incident(db: sqlite3.Connection, run_id: int | None, cause: str) -> int | None:
    """Number of the incident of this run and cause that is not closed."""
    row = db.execute(
        "SELECT id FROM incidents WHERE run_id IS ? AND cause = ? AND state != 'closed'", (run_id, cause)
    ).fetchone()
    return int(row[0]) if row else None


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _incident(row: Sequence[Any]) -> Incident:
    number, run_id, kind, severity, state, cause, message, data, evidence, verdict, opened, updated, closed = row
    return Incident(
        id=number,
        run_id=run_id,
        kind=kind,
        severity=Severity(severity),
        state=IncidentState(state),
        cause=cause,
        message=message,
        data=json.loads(data),
        evidence=tuple(map(Evidence.from_dict, json.loads(evidence))),
        verdict=verdict,
        opened_at=opened,
        updated_at=opened if updated is None else updated,
        closed_at=closed,
    )
