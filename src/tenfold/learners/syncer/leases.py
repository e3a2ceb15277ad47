"""Leases: who trains which samples, so that each sample is trained once however often learners die.

Samples not handed out lie in a pool of ranges; granting takes from its lowest range, and settling an incarnation puts
back what it was given and did not get into an accepted contribution. Since ranges given back lie below the fresh ones,
they are handed out first. The leases themselves are a log: no row is deleted, and only the committed count is filled
in, so the run can be replayed from them.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from tenfold.core import InputError, TenfoldError
from tenfold.learners.messages import Lease
from tenfold.learners.syncer.store import FencedDatabase

LEASES_SCHEMA = """
CREATE TABLE IF NOT EXISTS sample_order (id INTEGER PRIMARY KEY CHECK (id = 1), total INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS pool (first_sample INTEGER PRIMARY KEY, samples INTEGER NOT NULL CHECK (samples > 0));
CREATE TABLE IF NOT EXISTS leases (
    number INTEGER PRIMARY KEY AUTOINCREMENT, life INTEGER NOT NULL, first_sample INTEGER NOT NULL,
    samples INTEGER NOT NULL CHECK (samples > 0), position INTEGER NOT NULL, stride INTEGER NOT NULL,
    committed INTEGER CHECK (committed BETWEEN 0 AND samples));
CREATE INDEX IF NOT EXISTS leases_by_life ON leases (life);
CREATE TABLE IF NOT EXISTS settled (life INTEGER PRIMARY KEY, samples INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class SampleTotals:
    """Samples of the whole run: ever granted, given back of these, and committed by incarnations that are over.

    What living learners hold is granted − given_back − settled.
    """

    total: int
    granted: int
    given_back: int
    settled: int


class Leases:
    """The sample order 0 … total − 1, handed out in leases. Every change is on disk before its method returns."""

    def __init__(self, database: FencedDatabase, total_samples: int) -> None:
        """Go on where the database stands, or begin. Raises InputError when it was begun with another total."""
        self._database = database
        self._known: dict[int, tuple[Lease, ...]] = {}
        with database.write() as db:
            row = db.execute("SELECT total FROM sample_order").fetchone()
            if row is None:
                db.execute("INSERT INTO sample_order VALUES (1, ?)", (total_samples,))
                _put_back(db, 0, total_samples)
            elif row[0] != total_samples:
                raise InputError(
                    f"{database.path}: this run hands out {row[0]} samples, not {total_samples}; "
                    "set train.tokens back, or run in another directory"
                )
        self._total = total_samples

    def grant(self, incarnation: int, samples: int, *, position: int, stride: int) -> Lease | None:
        """The lowest samples nobody has, at most `samples`, as one range; None when nothing is left now.

        More may come back later: who gets None asks again until every other incarnation is over. Raises TenfoldError
        when the incarnation has been settled, or fewer than 1 sample is asked for.
        """
        if samples < 1:
            raise TenfoldError(f"incarnation {incarnation} asks for {samples} samples; ask for 1 or more")
        with self._database.write() as db:
            if db.execute("SELECT 1 FROM settled WHERE life = ?", (incarnation,)).fetchone():
                raise TenfoldError(f"incarnation {incarnation} is over and gets no more samples; join again")
            if not db.execute("SELECT 1 FROM pool LIMIT 1").fetchone():
                return None
            first, taken = _take_lowest(db, samples)
            cursor = db.execute(
                "INSERT INTO leases (life, first_sample, samples, position, stride) VALUES (?, ?, ?, ?, ?)",
                (incarnation, first, taken, position, stride),
            )
        lease = Lease(int(cursor.lastrowid or 0), incarnation, first, taken, position, stride)
        self._known.pop(incarnation, None)
        return lease

    def settle(self, incarnation: int, committed_samples: int) -> None:
        """Close an incarnation's account: the first `committed_samples` of its leases are trained, the rest goes back.

        Saying the same again changes nothing, so a syncer that died in between can repeat it. Raises TenfoldError for
        less than 0 or more than the incarnation was granted, or when it was settled with another count: the rest may
        have been handed to somebody else since.
        """
        with self._database.write() as db:
            before = db.execute("SELECT samples FROM settled WHERE life = ?", (incarnation,)).fetchone()
            if before is not None and before[0] == committed_samples:
                return
            if before is not None:
                raise TenfoldError(
                    f"incarnation {incarnation} is settled with {before[0]} samples already, not {committed_samples}"
                )
            leases = self.of_incarnation(incarnation)
            granted = sum(lease.samples for lease in leases)
            if not 0 <= committed_samples <= granted:
                raise TenfoldError(
                    f"incarnation {incarnation} cannot have trained {committed_samples} of {granted} granted samples"
                )
            db.execute("INSERT INTO settled VALUES (?, ?)", (incarnation, committed_samples))
            for lease in leases:
                committed = min(lease.samples, committed_samples)
                committed_samples -= committed
                db.execute("UPDATE leases SET committed = ? WHERE number = ?", (committed, lease.number))
                _put_back(db, lease.first_sample + committed, lease.samples - committed)

    def of_incarnation(self, incarnation: int) -> tuple[Lease, ...]:
        """An incarnation's leases in order of grant."""
        known = self._known.get(incarnation)  # asked for at every heartbeat of every learner
        if known is None:
            columns = "number, life, first_sample, samples, position, stride"
            rows = self._database.read(f"SELECT {columns} FROM leases WHERE life = ? ORDER BY number", (incarnation,))
            known = self._known[incarnation] = tuple(Lease(*map(int, row)) for row in rows)
        return known

    def granted_to(self, incarnation: int) -> int:
        """Samples ever granted to an incarnation."""
        return sum(lease.samples for lease in self.of_incarnation(incarnation))

    def committed_by(self, number: int) -> int | None:
        """How many of a lease's first samples are trained; None until its incarnation is over. Raises TenfoldError."""
        rows = self._database.read("SELECT committed FROM leases WHERE number = ?", (number,))
        if not rows:
            raise TenfoldError(f"{self._database.path}: there is no lease {number}")
        return None if rows[0][0] is None else int(rows[0][0])

    def progress(self) -> SampleTotals:
        """Totals of the run, in samples."""
        rows = self._database.read(
            "SELECT coalesce(sum(samples), 0), coalesce(sum(samples - committed), 0), coalesce(sum(committed), 0) "
            "FROM leases"
        )
        granted, given_back, settled = map(int, rows[0])
        return SampleTotals(self._total, granted, given_back, settled)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left to hand out now; incarnations that end may still give back."""
        return not self._database.read("SELECT 1 FROM pool LIMIT 1")


def _take_lowest(db: sqlite3.Connection, samples: int) -> tuple[int, int]:
    """Take up to `samples` from the pool's lowest range, which exists: (first sample, samples)."""
    first, there = db.execute("SELECT first_sample, samples FROM pool ORDER BY first_sample LIMIT 1").fetchone()
    taken = min(samples, there)
    db.execute("DELETE FROM pool WHERE first_sample = ?", (first,))
    if taken < there:
        db.execute("INSERT INTO pool VALUES (?, ?)", (first + taken, there - taken))
    return int(first), int(taken)


def _put_back(db: sqlite3.Connection, first: int, samples: int) -> None:
    """Add a range to the pool, joined with its neighbours: slivers would make small leases and so small steps."""
    if not samples:
        return
    end = first + samples
    neighbours = db.execute(
        "SELECT first_sample, samples FROM pool WHERE first_sample = ? OR first_sample + samples = ?", (end, first)
    ).fetchall()
    for start, length in neighbours:
        db.execute("DELETE FROM pool WHERE first_sample = ?", (start,))
        first, end = min(first, start), max(end, start + length)
    db.execute("INSERT INTO pool VALUES (?, ?)", (first, end - first))


def samples_after(leases: Sequence[Lease], batch: int, steps: int) -> int:
    """Samples that the first `steps` steps of an incarnation take: `batch` a step, the rest of a lease in its last."""
    samples = 0
    for lease in leases:
        here = min(steps, -(-lease.samples // batch))
        samples += min(here * batch, lease.samples)
        steps -= here
    return samples
