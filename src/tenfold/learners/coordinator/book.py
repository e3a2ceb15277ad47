"""The syncer's book: one SQLite file with one writer, the newest process that opened it.

A syncer may hang, be given up and be replaced, and then wake up: two processes would hand out the same samples. So
every opening of the book raises its generation (a fencing token), and every transaction first checks that the
generation is still its own. Check and write are one transaction, so nothing can come between them.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenfold.core.errors import InputError, TenfoldError

BUSY_TIMEOUT_S = 30.0  # an opening waits this long for the transaction of the process it takes over from

FORMAT = 2  # of the tables of coordinator and shards
FENCE = """
CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY CHECK (id = 1), generation INTEGER NOT NULL);
INSERT OR IGNORE INTO fence VALUES (1, 0);
UPDATE fence SET generation = generation + 1;
"""


class Fenced(TenfoldError):
    """Another process has opened the book since: this one must stop, what it wanted to write is not written."""


def check_format(db: sqlite3.Connection, path: Path) -> None:
    """Raises InputError when a book that is begun is not of this version of tenfold; one without tables is new."""
    begun = db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if begun and found != FORMAT:
        raise InputError(
            f"{path}: a merge log of format {found}, this tenfold reads format {FORMAT}; go on with the version that "
            "began the run, or train in another directory"
        )


class Book:
    """One SQLite file, durable and fenced, for all threads of one process.

    What a transaction wrote survives `kill -9` and a power cut once its block is left (WAL, synchronous=FULL).
    """

    def __init__(self, path: Path, schema: str) -> None:
        """Open the book, creating it and the tables of `schema` (IF NOT EXISTS), and take over from whoever had it.

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

        Transactions are not nested; other threads wait. Raises Fenced when a newer process has opened the book,
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
        """All rows of a SELECT. A fenced book still reads; what it decides by that it cannot write.

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
            raise TenfoldError(f"{self.path}: cannot {verb} the syncer's book ({error})") from error
