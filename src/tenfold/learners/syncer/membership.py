"""Who trains: every incarnation of a learner from joining to its end, and which of them make no progress.

A learner that restarts joins as a new incarnation with a new number, so whatever still arrives from the old one (a late
contribution, a heartbeat of a hung process) can be told apart and refused.

Liveness is judged by progress. A heartbeat thread goes on while the training thread hangs in a collective or a dead
file system, so a heartbeat that says the same as the one before counts for nothing. What is slow by nature happens
beside training (checkpoints, the link) or before it (joining), and is no reason to give up a learner.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

from tenfold.core import TenfoldError
from tenfold.learners.messages import EndState, IncarnationState
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.ledger import EndCause

REMEMBERED_STEPS = 20
FIRST_STEP = 10.0  # × minimum: the first step compiles and warms up
JOINING = 30.0  # × minimum: fragments and inner state come over a link that may be slow
MEMBERSHIP_SCHEMA = """
CREATE TABLE IF NOT EXISTS lives (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, address TEXT, batch INTEGER NOT NULL,
    state TEXT NOT NULL, origin TEXT, joined_at REAL NOT NULL, ended_at REAL, reason TEXT, steps INTEGER);
CREATE TABLE IF NOT EXISTS strikes (id INTEGER PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS struck (life INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS heard (life INTEGER PRIMARY KEY, step INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS causes (life INTEGER PRIMARY KEY, cause TEXT NOT NULL);
"""

ENDING: dict[str, EndState] = {"evicting": "evicted", "leaving": "left"}
"""Incarnations whose end is decided, until every shard of the syncer has fenced them; and what they are then."""
_ON_DISK = {"evicting": "sealing", "evicted": "sealed"}
"""States that have another name in the merge log, since its first version."""
_FROM_DISK = {on_disk: state for state, on_disk in _ON_DISK.items()}

_UNFINISHED = "state IN ('joining', 'active')"
_ENDING = "state IN ('sealing', 'leaving')"
MEMBERSHIP_COLUMNS = "number, name, address, batch, state, origin, joined_at, ended_at, reason, steps"


@dataclass(frozen=True)
class Incarnation:
    """What the merge log says of one incarnation of a learner. Times are seconds since the epoch.

    `address` is its peer server ("HOST:PORT") if it has one, `batch` its samples a step, `origin` where its inner state
    came from; `ended_at`, `reason` and `steps` (those that are in accepted contributions) are known once it is over.
    """

    number: int
    name: str
    address: str | None
    batch: int
    state: IncarnationState
    origin: dict[str, Any] | None
    joined_at: float
    ended_at: float | None
    reason: str | None
    steps: int | None


class Membership:
    """Every incarnation there was. Every change is on disk before its method returns."""

    def __init__(self, database: FencedDatabase, max_strikes: int) -> None:
        """A name that was struck `max_strikes` times is barred from joining."""
        self._database = database
        self._max_strikes = max_strikes

    def note_steps(self, steps: Mapping[int, int]) -> None:
        """Keep how many steps each incarnation says that it has made, to tell later what was lost."""
        with self._database.write() as db:
            db.executemany("INSERT OR REPLACE INTO heard VALUES (?, ?)", list(steps.items()))

    def noted_steps(self) -> dict[int, int]:
        """LoggedIncarnation → steps as last noted."""
        return {
            int(incarnation): int(step) for incarnation, step in self._database.read("SELECT life, step FROM heard")
        }

    def join(self, name: str, address: str | None, batch: int) -> Incarnation:
        """Begin an incarnation under a number never used before. A learner has one: end `unfinished(name)` first.

        Raises TenfoldError for a barred name, an unfinished incarnation of that name, or a batch below 1.
        """
        if batch < 1:
            raise TenfoldError(f"{name}: a batch of {batch} samples; give 1 or more")
        with self._database.write() as db:
            self._refuse_barred(db, name)
            if before := self.unfinished(name):
                raise TenfoldError(f"{name}: its incarnation {before.number} is not over; end it before another joins")
            cursor = db.execute(
                "INSERT INTO lives (name, address, batch, state, joined_at) VALUES (?, ?, ?, 'joining', ?)",
                (name, address, batch, time.time()),
            )
            incarnation = self.get(int(cursor.lastrowid or 0))
        return incarnation

    def _refuse_barred(self, db: sqlite3.Connection, name: str) -> None:
        reasons = db.execute("SELECT reason FROM strikes WHERE name = ? ORDER BY id", (name,)).fetchall()
        if len(reasons) >= self._max_strikes:
            raise TenfoldError(f"{name}: barred after {len(reasons)} strikes; the last one: {reasons[-1][0]}")

    def activate(self, number: int, origin: dict[str, Any] | None) -> None:
        """A joining incarnation has its state and begins to train. Raises TenfoldError for one in any other state."""
        with self._database.write() as db:
            incarnation = self.get(number)
            if incarnation.state != "joining":
                raise TenfoldError(
                    f"{incarnation.name}: incarnation {number} is {incarnation.state}; only a joining one is activated"
                )
            text = None if origin is None else json.dumps(origin, sort_keys=True)
            db.execute("UPDATE lives SET state = 'active', origin = ? WHERE number = ?", (text, number))

    def begin_end(self, number: int, state: Literal["evicted", "left"], cause: EndCause, reason: str) -> None:
        """Decide that an incarnation ends as `state`, whoever dies meanwhile. The first cause and reason stand."""
        transient = next(before for before, after in ENDING.items() if after == state)
        with self._database.write() as db:
            db.execute(
                f"UPDATE lives SET state = ?, reason = ? WHERE number = ? AND {_UNFINISHED}",
                (_on_disk(transient), reason, number),
            )
            db.execute("INSERT OR IGNORE INTO causes VALUES (?, ?)", (number, cause.value))

    def note_cause(self, number: int, cause: EndCause) -> None:
        """Keep why an incarnation ended. The first cause stands."""
        with self._database.write() as db:
            db.execute("INSERT OR IGNORE INTO causes VALUES (?, ?)", (number, cause.value))

    def cause(self, number: int) -> EndCause | None:
        """Why an incarnation ended; None while it goes on, and where an older version ended it."""
        rows = self._database.read("SELECT cause FROM causes WHERE life = ?", (number,))
        return EndCause(rows[0][0]) if rows else None

    def joining(self) -> list[Incarnation]:
        """The incarnations that are not whole yet, oldest first."""
        return self._select("state = 'joining'")

    def ending(self) -> list[Incarnation]:
        """Incarnations whose end has begun and is not complete, oldest first."""
        return self._select(_ENDING)

    def end(self, number: int, state: EndState, reason: str, steps: int) -> None:
        """End an incarnation, `steps` of whose steps are committed. The first end stands: the second changes nothing.

        Raises TenfoldError for an unknown incarnation.
        """
        with self._database.write() as db:
            self.get(number)
            db.execute(
                "UPDATE lives SET state = ?, reason = ?, steps = ?, ended_at = ? "
                f"WHERE number = ? AND ({_UNFINISHED} OR {_ENDING})",
                (_on_disk(state), reason, steps, time.time(), number),
            )

    def strike(self, number: int, reason: str) -> int | None:
        """Count something bad that an incarnation did against its learner; returns how often it has. Never forgotten.

        An incarnation ends by its first, so it counts once: None when it is told again. Raises TenfoldError for an
        unknown one.
        """
        with self._database.write() as db:
            name = self.get(number).name
            if db.execute("INSERT OR IGNORE INTO struck VALUES (?)", (number,)).rowcount == 0:
                return None
            db.execute("INSERT INTO strikes (name, reason, at) VALUES (?, ?, ?)", (name, reason, time.time()))
            count = db.execute("SELECT count(*) FROM strikes WHERE name = ?", (name,)).fetchone()[0]
        return int(count)

    def unfinished(self, name: str) -> Incarnation | None:
        """The incarnation of this name that is not over (its process may be gone); there is at most one."""
        return next(iter(self._select(f"name = ? AND {_UNFINISHED}", name)), None)

    def get(self, number: int) -> Incarnation:
        """One incarnation. Raises TenfoldError when there is none of this number."""
        found = self._select("number = ?", number)
        if not found:
            raise TenfoldError(f"{self._database.path}: there is no incarnation {number}")
        return found[0]

    def active(self) -> list[Incarnation]:
        """The incarnations that get leases and may contribute, oldest first."""
        return self._select("state = 'active'")

    def all(self) -> list[Incarnation]:
        """Every incarnation there was, oldest first."""
        return self._select("1")

    def _select(self, where: str, *args: str | int) -> list[Incarnation]:
        rows = self._database.read(f"SELECT {MEMBERSHIP_COLUMNS} FROM lives WHERE {where} ORDER BY number", args)
        return [incarnation_from_row(row) for row in rows]


def incarnation_from_row(row: tuple[Any, ...]) -> Incarnation:
    """An incarnation from its MEMBERSHIP_COLUMNS."""
    number, name, address, batch, state, origin, *rest = row
    return Incarnation(number, name, address, batch, _FROM_DISK.get(state, state), origin and json.loads(origin), *rest)


def _on_disk(state: str) -> str:
    return _ON_DISK.get(state, state)


@dataclass(frozen=True)
class _Watch:
    """What is known of one incarnation; times in seconds of the caller's clock."""

    progress_at: float
    step_since: float
    """When the step under way began: at the end of the one before, or of a wait for samples."""
    is_joining: bool = False
    report: tuple[int, int] | None = None
    first_step: float | None = None
    intervals: tuple[float, ...] = ()

    def heard(self, now: float, report: tuple[int, int]) -> "_Watch":
        """After one report. A clock that lags behind, as between threads, is held."""
        if report == self.report:
            return self
        now = max(now, self.progress_at)
        watch = replace(self, progress_at=now, report=report)
        if self.report is None:
            return watch
        steps = report[0] - self.report[0]
        return replace(watch._stepped(now - self.step_since, steps) if steps > 0 else watch, step_since=now)

    def _stepped(self, seconds: float, steps: int) -> "_Watch":
        """After `steps` more steps, which heartbeats may report several at a time."""
        if self.first_step is None:
            return replace(self, first_step=seconds / steps)
        return replace(self, intervals=(*self.intervals, seconds / steps)[-REMEMBERED_STEPS:])

    def allowance(self, minimum: float, factor: float) -> float:
        """Seconds without progress that are no stall."""
        if self.is_joining:
            return JOINING * minimum
        if self.first_step is None:
            return FIRST_STEP * minimum
        # Until there is an interval the first step is the only hint of how long one takes.
        return max(minimum, factor * max(self.intervals, default=self.first_step))


class Liveness:
    """Who stalls. Pure: every method takes the time, in seconds of one monotonic clock. Safe to use from many threads.

    Allowances, in seconds since the last progress:

    - training: max(minimum, factor × longest of the last 20 intervals between steps); 10 × minimum for the first step
    - joining: 30 × minimum
    """

    def __init__(self, minimum: float, factor: float) -> None:
        """`minimum` seconds, several heartbeats, are always allowed; `factor` scales the slowest of its own steps."""
        self._minimum = minimum
        self._factor = factor
        self._watched: dict[int, _Watch] = {}
        self._lock = threading.Lock()

    def joining(self, incarnation: int, now: float) -> None:
        """Watch an incarnation that is on its way to its first step."""
        with self._lock:
            self._watched[incarnation] = _Watch(now, now, is_joining=True)

    def started(self, incarnation: int, now: float) -> None:
        """Watch an incarnation from its activation on; its next step counts as the first."""
        with self._lock:
            self._watched[incarnation] = _Watch(now, now)

    def progress(self, incarnation: int, now: float, step: int, waits: int) -> None:
        """What a heartbeat says: steps done, and how often it was found that there is nothing to train.

        Any change is progress, a repetition is none. A late heartbeat of an incarnation that is not watched is ignored,
        so that the dead are not watched again.
        """
        with self._lock:
            if (watch := self._watched.get(incarnation)) is not None:
                self._watched[incarnation] = watch.heard(now, (step, waits))

    def stalled(self, now: float) -> list[tuple[int, float]]:
        """(incarnation, seconds since its last progress) of all that stand still for longer than they may."""
        with self._lock:
            watched = sorted(self._watched.items())
        return [
            (incarnation, now - watch.progress_at)
            for incarnation, watch in watched
            if now - watch.progress_at > watch.allowance(self._minimum, self._factor)
        ]

    def silence(self, incarnation: int, now: float) -> float:
        """Seconds since a watched incarnation's last progress; heartbeats that repeat themselves do not break it."""
        return now - self._watch(incarnation).progress_at

    def step_seconds(self, incarnation: int) -> float | None:
        """Median of a watched incarnation's last 20 intervals between steps; None before the second step."""
        intervals: Sequence[float] = self._watch(incarnation).intervals
        return median(intervals) if intervals else None

    def forget(self, incarnation: int) -> None:
        """Stop watching an incarnation that is over."""
        with self._lock:
            self._watched.pop(incarnation, None)

    def _watch(self, incarnation: int) -> _Watch:
        with self._lock:
            watch = self._watched.get(incarnation)
        if watch is None:
            raise TenfoldError(f"incarnation {incarnation} is not watched")
        return watch
