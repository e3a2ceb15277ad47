"""What the syncer keeps on disk: a fenced database, and the store of fragments and contributions of one shard.

A syncer may hang, be given up and be replaced, and then wake up: two processes would hand out the same samples. So
every opening of a database raises its generation (a fencing token), and every transaction first checks that the
generation is still its own. Check and write are one transaction, so nothing can come between them.

Contributions and versions are files; what they are and what was made of them is in the merge log. A transaction is the
moment something happens: before it nothing has, after it everything has, whenever the process is killed.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from tenfold.core import InputError, TenfoldError, digest_of_bytes, write_bytes
from tenfold.learners.messages import Contribution, Published, history_from, history_to_json
from tenfold.learners.outer import KEPT_DIFFERENCES, FragmentState

BUSY_TIMEOUT_S = 30.0  # an opening waits this long for the transaction of the process it takes over from

FORMAT = 2  # of the tables of coordinator and shards
FENCE = """
CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL);
INSERT OR IGNORE INTO fence VALUES (1, 0);
UPDATE fence SET generation = generation + 1;
"""

MERGE_LOG_SCHEMA = """
CREATE TABLE IF NOT EXISTS contributions (
    id INTEGER PRIMARY KEY, life INTEGER NOT NULL, fragment INTEGER NOT NULL, sequence INTEGER NOT NULL,
    rank INTEGER NOT NULL, ranks INTEGER NOT NULL, base_version INTEGER NOT NULL, joined_version INTEGER NOT NULL,
    step INTEGER NOT NULL, tokens INTEGER NOT NULL, history TEXT NOT NULL, precision TEXT NOT NULL,
    bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, norm REAL NOT NULL, version INTEGER, weight REAL, place INTEGER,
    arrived_at REAL NOT NULL, UNIQUE (life, fragment, sequence, rank));
CREATE INDEX IF NOT EXISTS by_version ON contributions (fragment, version);
CREATE TABLE IF NOT EXISTS versions (
    fragment INTEGER NOT NULL, version INTEGER NOT NULL, state_sha256 TEXT NOT NULL, difference_sha256 TEXT,
    values_sha256 TEXT NOT NULL, learners INTEGER NOT NULL, alive INTEGER NOT NULL, done INTEGER,
    generation INTEGER NOT NULL, published_at REAL NOT NULL, PRIMARY KEY (fragment, version));
CREATE TABLE IF NOT EXISTS sealed (life INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS arrivals (contribution INTEGER PRIMARY KEY, awake REAL NOT NULL);
CREATE TABLE IF NOT EXISTS refusals (
    id INTEGER PRIMARY KEY, life INTEGER, header TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL);
"""
_CONTRIBUTION = "life, fragment, sequence, base_version, joined_version, step, tokens, history, precision, rank, ranks"
CONTRIBUTION_COLUMNS = f"id, sha256, norm, version, weight, {_CONTRIBUTION}"


class Fenced(TenfoldError):
    """Another process has opened the database since: this one must stop, what it wanted to write is not written."""


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """Raises InputError when a database that is begun is not of this version of tenfold; one without tables is new."""
    begun = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if begun and found != FORMAT:
        raise InputError(
            f"{path}: a merge log of format {found}, this tenfold reads format {FORMAT}; go on with the version that "
            "began the run, or train in another directory"
        )


class FencedDatabase:
    """One SQLite file, durable and fenced, for all threads of one process.

    What a transaction wrote survives `kill -9` and a power cut once its block is left (WAL, synchronous=FULL).
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Open the database, creating it and the tables of `schema` (IF NOT EXISTS), and take over from whoever had it.

        Raises TenfoldError when it cannot be opened; also when the process before is stopped inside a transaction and
        stays so for BUSY_TIMEOUT_S: it holds SQLite's lock, and only its end frees that.
        """
        self.path = path
        self.generation = 0
        self._lock = threading.RLock()
        with self._one_line("open"):
            self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
            try:
                self.generation = self._take_over(schema)
            except BaseException:
                self._db.close()
                raise

    def _take_over(self, schema: str) -> int:
        """Tables and generation in one transaction: an opening that is killed has changed nothing."""
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        check_format(self._db, self.path)
        self._db.executescript(f"BEGIN IMMEDIATE;\nPRAGMA user_version = {FORMAT};\n{FENCE}\n{schema}")
        generation = self._current_generation()
        self._db.execute("COMMIT")
        return generation

    def _current_generation(self) -> int:
        return int(self._db.execute("SELECT generation FROM fence").fetchone()[0])

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on disk when the block is left, and nothing of it when the block raises.

        Transactions are not nested; other threads wait. Raises Fenced when a newer process has opened the database,
        TenfoldError when SQLite cannot write (disk full, a constraint, …).
        """
        with self._lock, self._one_line("write"):
            if self._db.in_transaction:
                raise TenfoldError(f"{self.path}: a transaction inside a transaction; leave the outer one first")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._check_fence()
                yield self._db
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    def _check_fence(self) -> None:
        if (newest := self._current_generation()) != self.generation:
            raise Fenced(
                f"{self.path}: another syncer took over (generation {newest}, this one is {self.generation}); "
                "nothing was written, stop this one"
            )

    def read(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a SELECT. A fenced database still reads; what it decides by that it cannot write.

        Inside `write` of the same thread it sees what the transaction has written so far. Raises TenfoldError.
        """
        with self._lock, self._one_line("read"):
            return self._db.execute(sql, args).fetchall()

    def close(self) -> None:
        """Close the file, once no thread is in a transaction. Later calls raise TenfoldError."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _one_line(self, verb: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise TenfoldError(f"{self.path}: cannot {verb} the syncer's database ({error})") from error


def write_hashed(path: Path, data: bytes | memoryview) -> str:
    """Write durably and return the sha256. Raises TenfoldError (disk full, …)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return digest_of_bytes(data)


def read_verified(path: Path, sha256: str) -> bytes:
    """What `write_hashed` wrote. Raises TenfoldError when it is missing or not that."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TenfoldError(f"{path}: cannot be read ({error.strerror})") from error
    if digest_of_bytes(data) != sha256:
        raise TenfoldError(f"{path}: does not match its hash in the merge log")
    return data


@dataclass(frozen=True)
class StoredContribution:
    """A contribution on disk."""

    id: int
    what: Contribution
    sha256: str
    norm: float
    version: int | None
    weight: float | None


def contribution_from_row(row: tuple[Any, ...]) -> StoredContribution:
    """A contribution from its CONTRIBUTION_COLUMNS."""
    number, sha256, norm, version, weight, *columns = row
    names = _CONTRIBUTION.replace("life", "incarnation").split(", ")
    fields = dict(zip(names, columns, strict=True))
    what = Contribution(**fields | {"history": history_from(json.loads(fields["history"]))})
    return StoredContribution(number, what, sha256, norm, version, weight)


class FragmentStore:
    """Durable state of one shard."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = FencedDatabase(folder / "merge-log.sqlite", MERGE_LOG_SCHEMA)

    def close(self) -> None:
        """Close the log."""
        self.database.close()

    # Contributions

    def keep_payload(self, contribution: Contribution, data: bytes | memoryview) -> str:
        """Put the values of a contribution on disk; their sha256. Until `add` they belong to nothing."""
        sha256 = digest_of_bytes(data)
        return write_hashed(self._payload(contribution, sha256), data)

    def drop_payload(self, contribution: Contribution, sha256: str) -> None:
        """Delete the values of a contribution that is not accepted after all."""
        self._payload(contribution, sha256).unlink(missing_ok=True)

    def add(self, contribution: Contribution, sha256: str, size: int, norm: float, awake: float) -> None:
        """Accept a contribution whose payload of `size` bytes is kept: on disk when this returns.

        `awake`: when it came, by `AwakeClock`.
        """
        c = contribution
        row = (c.incarnation, c.fragment, c.sequence, c.base_version, c.joined_version, c.step, c.tokens)
        history = json.dumps(history_to_json(c.history))
        with self.database.write() as db:
            added = db.execute(
                f"INSERT INTO contributions ({_CONTRIBUTION}, bytes, sha256, norm, arrived_at) "
                f"VALUES ({', '.join('?' * 15)})",
                (*row, history, c.precision, c.rank, c.ranks, size, sha256, norm, time.time()),
            )
            db.execute("INSERT INTO arrivals VALUES (?, ?)", (added.lastrowid, awake))

    def has(self, contribution: Contribution) -> bool:
        """Whether this contribution has been accepted before."""
        c = contribution
        return bool(
            self.database.read(
                "SELECT 1 FROM contributions WHERE life = ? AND fragment = ? AND sequence = ? AND rank = ?",
                (c.incarnation, c.fragment, c.sequence, c.rank),
            )
        )

    def waiting(self, fragment: int) -> list[StoredContribution]:
        """Contributions in no version yet whose every rank's part is here, in order of incarnation and sequence."""
        found = self._contributions("fragment = ? AND version IS NULL", (fragment,))
        parts: dict[tuple[int, int], int] = {}
        for each in found:
            key = (each.what.incarnation, each.what.sequence)
            parts[key] = parts.get(key, 0) + 1
        return [each for each in found if parts[each.what.incarnation, each.what.sequence] == each.what.ranks]

    def parts(self, incarnation: int, fragment: int, sequence: int) -> list[Contribution]:
        """The parts of one contribution that are here."""
        where = "life = ? AND fragment = ? AND sequence = ?"
        return [each.what for each in self._contributions(where, (incarnation, fragment, sequence))]

    def merged(self, fragment: int, version: int) -> list[StoredContribution]:
        """The contributions that made a version, in the order they were added up."""
        return self._contributions("fragment = ? AND version = ?", (fragment, version), order="place")

    def _contributions(
        self, where: str, values: Sequence[int], order: str = "life, sequence, rank"
    ) -> list[StoredContribution]:
        rows = self.database.read(
            f"SELECT {CONTRIBUTION_COLUMNS} FROM contributions WHERE {where} ORDER BY {order}", values
        )
        return [contribution_from_row(row) for row in rows]

    def payload(self, waiting: StoredContribution) -> bytes:
        """The encoded pseudo-gradient. Raises TenfoldError when it is not what was accepted."""
        return read_verified(self._payload(waiting.what, waiting.sha256), waiting.sha256)

    def merged_sequences(self, incarnation: int, fragment: int, version: int) -> list[int]:
        """Which of an incarnation's contributions to a fragment are in this version or an earlier one."""
        rows = self.database.read(
            "SELECT DISTINCT sequence FROM contributions WHERE life = ? AND fragment = ? AND version <= ? ORDER BY 1",
            (incarnation, fragment, version),
        )
        return [int(sequence) for (sequence,) in rows]

    def recent_norms(self, fragment: int, count: int) -> list[tuple[int, int, float, int]]:
        """(rank, ranks, norm, tokens) of the latest accepted contributions to a fragment, oldest first."""
        sql = "SELECT rank, ranks, norm, tokens FROM contributions WHERE fragment = ? ORDER BY id DESC LIMIT ?"
        rows = reversed(self.database.read(sql, (fragment, count)))
        return [(int(rank), int(ranks), float(norm), int(tokens)) for rank, ranks, norm, tokens in rows]

    def recent_arrivals(self, fragment: int, count: int) -> list[tuple[int, float, int]]:
        """(incarnation, awake seconds, tokens) of the latest contributions to a fragment, oldest first."""
        sql = (
            "SELECT life, awake, tokens FROM contributions JOIN arrivals ON contribution = id "
            "WHERE fragment = ? AND rank = 0 ORDER BY id DESC LIMIT ?"
        )
        rows = reversed(self.database.read(sql, (fragment, count)))
        return [(int(incarnation), float(at), int(tokens)) for incarnation, at, tokens in rows]

    def awake(self) -> float:
        """Where the clock of arrivals stood at the last of them; 0 before the first."""
        return float(self.database.read("SELECT coalesce(max(awake), 0) FROM arrivals")[0][0])

    def refuse(self, incarnation: int, header: Mapping[str, object], reason: str) -> None:
        """Write a quarantined contribution into the log and fence its incarnation; its payload is not kept."""
        with self.database.write() as db:
            db.execute("INSERT OR IGNORE INTO sealed VALUES (?)", (incarnation,))
            db.execute(
                "INSERT INTO refusals (life, header, reason, at) VALUES (?, ?, ?, ?)",
                (incarnation, json.dumps(dict(header), sort_keys=True)[:2000], reason, time.time()),
            )

    def refusals_after(self, number: int) -> list[tuple[int, int, str]]:
        """(number, incarnation, reason) of what was quarantined after the one of this number."""
        rows = self.database.read("SELECT id, life, reason FROM refusals WHERE id > ? ORDER BY id", (number,))
        return [(int(each), int(incarnation), str(reason)) for each, incarnation, reason in rows]

    # The end of an incarnation

    def fence(self, incarnation: int) -> dict[int, int]:
        """From now on nothing of this incarnation is accepted; fragment → its steps that are in accepted parts."""
        with self.database.write() as db:
            db.execute("INSERT OR IGNORE INTO sealed VALUES (?)", (incarnation,))
            rows = db.execute(
                "SELECT fragment, max(step) FROM (SELECT fragment, sequence, step FROM contributions WHERE life = ? "
                "GROUP BY fragment, sequence HAVING count(*) = max(ranks)) GROUP BY fragment",
                (incarnation,),
            ).fetchall()
        return {int(fragment): int(step) for fragment, step in rows}

    def is_fenced(self, incarnation: int) -> bool:
        """Whether nothing more of an incarnation is accepted."""
        return bool(self.database.read("SELECT 1 FROM sealed WHERE life = ?", (incarnation,)))

    # Versions

    def publish(
        self,
        fragment: int,
        state: FragmentState,
        difference: bytes | None,
        made_of: Sequence[tuple[StoredContribution, float]],
        published: Published,
        values_sha256: str,
    ) -> None:
        """Make a version the newest: at once and for good, or not at all.

        Raises Fenced when another syncer has taken over, TenfoldError when the disk is full; nothing has changed then.
        """
        tensors = {"values": state.values, "momentum": state.momentum, "residual": state.residual}
        generation = self.database.generation  # names the files too: who was taken over must not hit the other's
        state_sha256 = write_hashed(_state_file(self.folder, fragment, state.version, generation), save(tensors))
        difference_sha256 = None
        if difference is not None:
            difference_sha256 = write_hashed(self._difference(fragment, state.version, generation), difference)
        names = (fragment, state.version, state_sha256, difference_sha256, values_sha256)
        learners = len({waiting.what.incarnation for waiting, _ in made_of})
        with self.database.write() as db:
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*names, learners, published.learners, published.done, generation, time.time()),
            )
            db.executemany(
                "UPDATE contributions SET version = ?, weight = ?, place = ? WHERE id = ?",
                [(state.version, weight, place, waiting.id) for place, (waiting, weight) in enumerate(made_of)],
            )
        self._forget(fragment, state.version, [waiting for waiting, _ in made_of])

    def _forget(self, fragment: int, version: int, merged: Sequence[StoredContribution]) -> None:
        """Delete payloads that nothing needs any more. Being killed before this costs disk, nothing else."""
        for waiting in merged:
            self._payload(waiting.what, waiting.sha256).unlink(missing_ok=True)
        folder = self.folder / f"fragment-{fragment}"
        for old in folder.glob(f"version-{version - 2:08d}-*") if version >= 2 else ():
            old.unlink(missing_ok=True)
        outdated = version - KEPT_DIFFERENCES
        for old in folder.glob(f"difference-{outdated:08d}-*") if outdated > 0 else ():
            old.unlink(missing_ok=True)

    def tidy(self) -> None:
        """At start: delete payloads that were written before a kill and belong to nothing, or were merged already."""
        needed = {self._payload(each.what, each.sha256) for each in self._contributions("version IS NULL", ())}
        for path in (self.folder / "contributions").glob("*"):
            if path not in needed:
                path.unlink(missing_ok=True)

    def newest(self, fragment: int) -> FragmentState | None:
        """The newest version of a fragment; None before the first. Raises TenfoldError when its file is damaged."""
        columns = "version, state_sha256, generation"
        rows = self.database.read(
            f"SELECT {columns} FROM versions WHERE fragment = ? ORDER BY version DESC LIMIT 1", (fragment,)
        )
        if not rows:
            return None
        version, sha256, generation = rows[0]
        return load_state(self.folder, fragment, version, generation, sha256)

    def difference(self, fragment: int, version: int) -> bytes | None:
        """What leads from the version before to this one; None when it is not kept any more."""
        rows = self.database.read(
            "SELECT difference_sha256, generation FROM versions WHERE fragment = ? AND version = ?", (fragment, version)
        )
        if not rows or rows[0][0] is None:
            return None
        path = self._difference(fragment, version, rows[0][1])
        return read_verified(path, rows[0][0]) if path.exists() else None

    def published(self, fragment: int, version: int) -> Published:
        """What was known when a version was published. Raises IndexError when there was no such version."""
        sql = "SELECT done, alive FROM versions WHERE fragment = ? AND version = ?"
        return Published(*self.database.read(sql, (fragment, version))[0])

    def values_digest(self, fragment: int, version: int) -> str | None:
        """Digest of a version's values; None when there was no such version."""
        rows = self.database.read(
            "SELECT values_sha256 FROM versions WHERE fragment = ? AND version = ?", (fragment, version)
        )
        return str(rows[0][0]) if rows else None

    def _payload(self, c: Contribution, sha256: str) -> Path:
        """Named by what is in it too: of two that come at once under one number none takes the other's place."""
        number = f"{c.incarnation}-{c.fragment}-{c.sequence}-{c.rank}"
        before = self.folder / "contributions" / f"{number}.bin"  # as an earlier version named it
        return before if before.exists() else before.with_name(f"{number}-{sha256[:16]}.bin")

    def _difference(self, fragment: int, version: int, generation: int) -> Path:
        return self.folder / f"fragment-{fragment}" / f"difference-{version:08d}-{generation}.bin"


def load_state(folder: Path, fragment: int, version: int, generation: int, sha256: str) -> FragmentState:
    """A version. Raises TenfoldError when its file is gone, as it is once two newer ones are there, or damaged."""
    tensors: dict[str, Tensor] = load(read_verified(_state_file(folder, fragment, version, generation), sha256))
    return FragmentState(version, tensors["values"], tensors["momentum"], tensors["residual"])


def _state_file(folder: Path, fragment: int, version: int, generation: int) -> Path:
    return folder / f"fragment-{fragment}" / f"version-{version:08d}-{generation}.safetensors"
