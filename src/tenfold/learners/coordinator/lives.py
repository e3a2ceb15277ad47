"""Lives: one row for each incarnation of a learner, from joining to its end.

A learner that restarts joins as a new life with a new number, so whatever still arrives from the old one (a late
contribution, a heartbeat of a hung process) can be told apart and refused.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tenfold.core.errors import TenfoldError
from tenfold.learners.coordinator.book import Book

SCHEMA = """
CREATE TABLE IF NOT EXISTS lives (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, address TEXT, batch INTEGER NOT NULL,
    state TEXT NOT NULL, origin TEXT, joined_at REAL NOT NULL, ended_at REAL, reason TEXT, steps INTEGER);
CREATE TABLE IF NOT EXISTS strikes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS struck (life INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS heard (life INTEGER PRIMARY KEY, step INTEGER NOT NULL);
"""

End = Literal["sealed", "left", "finished"]
State = Literal["joining", "active", "sealing", "leaving", "sealed", "left", "finished"]
ENDING: dict[str, End] = {"sealing": "sealed", "leaving": "left"}
"""Lives whose end is decided, until every shard of the syncer has sealed them; and what they are then."""

_UNFINISHED = "state IN ('joining', 'active')"
_ENDING = "state IN ('sealing', 'leaving')"
COLUMNS = "number, name, address, batch, state, origin, joined_at, ended_at, reason, steps"


@dataclass(frozen=True)
class Life:
    """One incarnation of a learner. Times are seconds since the epoch.

    `address` is its peer server ("HOST:PORT") if it has one, `batch` its samples a step, `origin` where its inner state
    came from; `ended_at`, `reason` and `steps` (those that are in accepted contributions) are known once it is over.
    """

    number: int
    name: str
    address: str | None
    batch: int
    state: State
    origin: dict[str, Any] | None
    joined_at: float
    ended_at: float | None
    reason: str | None
    steps: int | None


class Lives:
    """Every life there was. Every change is on disk before its method returns."""

    def __init__(self, book: Book, max_strikes: int) -> None:
        """A name that was struck `max_strikes` times is barred from joining."""
        self._book = book
        self._max_strikes = max_strikes

    def note_steps(self, steps: Mapping[int, int]) -> None:
        """How many steps each of these lives says that it has made, for whoever must tell later what was lost."""
        with self._book.write() as db:
            db.executemany("INSERT OR REPLACE INTO heard VALUES (?, ?)", list(steps.items()))

    def noted_steps(self) -> dict[int, int]:
        """Life → steps as last noted."""
        return {int(life): int(step) for life, step in self._book.read("SELECT life, step FROM heard")}

    def join(self, name: str, address: str | None, batch: int) -> Life:
        """Begin a life; its number was never used before. A learner has one at a time: seal `unfinished(name)` first.

        Raises TenfoldError for a barred name, an unfinished life of that name, or a batch below 1.
        """
        if batch < 1:
            raise TenfoldError(f"{name}: a batch of {batch} samples; give 1 or more")
        with self._book.write() as db:
            self._refuse_barred(db, name)
            if before := self.unfinished(name):
                raise TenfoldError(f"{name}: its life {before.number} is not over; seal it before another joins")
            cursor = db.execute(
                "INSERT INTO lives (name, address, batch, state, joined_at) VALUES (?, ?, ?, 'joining', ?)",
                (name, address, batch, time.time()),
            )
            life = self.get(int(cursor.lastrowid or 0))
        return life

    def _refuse_barred(self, db: sqlite3.Connection, name: str) -> None:
        reasons = db.execute("SELECT reason FROM strikes WHERE name = ? ORDER BY id", (name,)).fetchall()
        if len(reasons) >= self._max_strikes:
            raise TenfoldError(f"{name}: barred after {len(reasons)} strikes; the last one: {reasons[-1][0]}")

    def activate(self, number: int, origin: dict[str, Any] | None) -> None:
        """A joining life has its state and begins to train. Raises TenfoldError for a life in any other state."""
        with self._book.write() as db:
            life = self.get(number)
            if life.state != "joining":
                raise TenfoldError(f"{life.name}: life {number} is {life.state}; only a joining one becomes active")
            text = None if origin is None else json.dumps(origin, sort_keys=True)
            db.execute("UPDATE lives SET state = 'active', origin = ? WHERE number = ?", (text, number))

    def begin_end(self, number: int, state: Literal["sealed", "left"], reason: str) -> None:
        """A life is to end as `state`, whoever dies meanwhile. The first reason stands; one that is over stays so."""
        transient = next(before for before, after in ENDING.items() if after == state)
        with self._book.write() as db:
            db.execute(
                f"UPDATE lives SET state = ?, reason = ? WHERE number = ? AND {_UNFINISHED}",
                (transient, reason, number),
            )

    def ending(self) -> list[Life]:
        """Lives whose end has begun and is not complete, oldest first."""
        return self._select(_ENDING)

    def end(self, number: int, state: End, reason: str, steps: int) -> None:
        """A life is over, `steps` of its steps are committed. The first end stands: ending it again changes nothing.

        Raises TenfoldError for an unknown life.
        """
        with self._book.write() as db:
            self.get(number)
            db.execute(
                "UPDATE lives SET state = ?, reason = ?, steps = ?, ended_at = ? "
                f"WHERE number = ? AND ({_UNFINISHED} OR {_ENDING})",
                (state, reason, steps, time.time(), number),
            )

    def strike(self, number: int, reason: str) -> int | None:
        """Count something bad that a life did against its learner; returns how often it has. Never forgotten.

        A life ends by its first, so it counts once: None when it is told again. Raises TenfoldError for an unknown one.
        """
        with self._book.write() as db:
            name = self.get(number).name
            if db.execute("INSERT OR IGNORE INTO struck VALUES (?)", (number,)).rowcount == 0:
                return None
            db.execute("INSERT INTO strikes (name, reason, at) VALUES (?, ?, ?)", (name, reason, time.time()))
            count = db.execute("SELECT count(*) FROM strikes WHERE name = ?", (name,)).fetchone()[0]
        return int(count)

    def unfinished(self, name: str) -> Life | None:
        """The life of this name that is not over (its process may be gone); there is at most one."""
        return next(iter(self._select(f"name = ? AND {_UNFINISHED}", name)), None)

    def get(self, number: int) -> Life:
        """One life. Raises TenfoldError when there is none of this number."""
        found = self._select("number = ?", number)
        if not found:
            raise TenfoldError(f"{self._book.path}: there is no life {number}")
        return found[0]

    def active(self) -> list[Life]:
        """The lives that get leases and may contribute, oldest first."""
        return self._select("state = 'active'")

    def all(self) -> list[Life]:
        """Every life there was, oldest first."""
        return self._select("1")

    def _select(self, where: str, *args: str | int) -> list[Life]:
        rows = self._book.read(f"SELECT {COLUMNS} FROM lives WHERE {where} ORDER BY number", args)
        return [life_from_row(row) for row in rows]


def life_from_row(row: tuple[Any, ...]) -> Life:
    """A life from its COLUMNS."""
    number, name, address, batch, state, origin, joined, ended, reason, steps = row
    return Life(number, name, address, batch, state, origin and json.loads(origin), joined, ended, reason, steps)
