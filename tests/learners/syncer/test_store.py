"""The syncer's database: one writer, whole transactions, whoever is stopped, killed or out of disk."""

import contextlib
import os
import signal
import threading
from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.store import Fenced, FencedDatabase
from tests.learners.syncer.killed import process, said_until_killed

NOTES = "CREATE TABLE IF NOT EXISTS notes (batch INTEGER NOT NULL, line INTEGER NOT NULL, UNIQUE (batch, line));"
NOTES_PER_BATCH = 20
NOTE_WRITER = f"""
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
database = FencedDatabase(Path(sys.argv[1]), "")
batch = database.read("SELECT coalesce(max(batch), 0) FROM notes")[0][0]
while True:
    batch += 1
    with database.write() as db:
        for line in range({NOTES_PER_BATCH}):
            db.execute("INSERT INTO notes VALUES (?, ?)", (batch, line))
    print(batch, flush=True)
"""
STOPPED_WRITER = """
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.learners.syncer.store import Fenced
database = FencedDatabase(Path(sys.argv[1]), "")
with database.write() as db:
    db.execute("INSERT INTO notes VALUES (1, 1)")
print("ready", flush=True)
sys.stdin.readline()
try:
    with database.write() as db:
        db.execute("INSERT INTO notes VALUES (2, 2)")
except Fenced:
    print("fenced", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


def note(database: FencedDatabase, batch: int, line: int) -> None:
    with database.write() as db:
        db.execute("INSERT INTO notes VALUES (?, ?)", (batch, line))


def notes(database: FencedDatabase) -> list[tuple[int, int]]:
    return database.read("SELECT batch, line FROM notes ORDER BY batch, line")


def test_the_older_of_two_processes_never_writes_again(path: Path) -> None:
    with contextlib.closing(FencedDatabase(path, NOTES)) as old:
        note(old, 1, 1)
        with contextlib.closing(FencedDatabase(path, NOTES)) as new:
            for _ in range(2):
                with pytest.raises(Fenced, match="another syncer took over"):
                    note(old, 2, 2)
            note(new, 3, 3)
            assert notes(new) == notes(old) == [(1, 1), (3, 3)]
        with pytest.raises(Fenced):  # nor once the newer one is gone
            note(old, 4, 4)


def test_a_stopped_process_that_wakes_up_after_a_takeover_is_fenced(path: Path) -> None:
    FencedDatabase(path, NOTES).close()
    with process(STOPPED_WRITER, path) as old:
        assert old.stdin is not None and old.stdout is not None
        assert old.stdout.readline() == "ready\n"
        os.kill(old.pid, signal.SIGSTOP)
        with contextlib.closing(FencedDatabase(path, NOTES)) as new:
            note(new, 3, 3)
            os.kill(old.pid, signal.SIGCONT)
            old.stdin.write("go on\n")
            old.stdin.flush()
            assert old.stdout.readline() == "fenced\n"
            assert notes(new) == [(1, 1), (3, 3)]


def test_kill_9_never_leaves_half_a_transaction_and_loses_none_that_was_reported(path: Path) -> None:
    FencedDatabase(path, NOTES).close()
    for attempt in range(5):
        said = said_until_killed(NOTE_WRITER, path, after=0.013 * attempt)
        with contextlib.closing(FencedDatabase(path, NOTES)) as database:
            counts = dict(database.read("SELECT batch, count(*) FROM notes GROUP BY batch"))
        assert set(counts.values()) == {NOTES_PER_BATCH}
        assert {int(batch) for (batch,) in said} <= counts.keys()


def test_a_block_that_raises_leaves_nothing_and_the_database_goes_on(path: Path) -> None:
    with contextlib.closing(FencedDatabase(path, NOTES)) as database:
        with pytest.raises(KeyError), database.write() as db:
            db.execute("INSERT INTO notes VALUES (1, 1)")
            raise KeyError("stop")
        note(database, 2, 2)
        with pytest.raises(TenfoldError, match=r"cannot write the syncer's database \(UNIQUE"):
            note(database, 2, 2)
        with pytest.raises(TenfoldError, match="inside a transaction"), database.write(), database.write():
            pass
        assert notes(database) == [(2, 2)]


def test_a_full_disk_is_one_line_and_leaves_nothing(path: Path) -> None:
    with contextlib.closing(FencedDatabase(path, NOTES)) as database:
        pages = database.read("PRAGMA page_count")[0][0]
        database.read(f"PRAGMA max_page_count = {pages}")  # SQLite's own SQLITE_FULL
        with pytest.raises(TenfoldError, match=r"^[^\n]*cannot write[^\n]*full[^\n]*$"), database.write() as db:
            db.executemany("INSERT INTO notes VALUES (?, ?)", [(1, line) for line in range(5000)])
        assert notes(database) == []
        database.read(f"PRAGMA max_page_count = {pages + 100}")
        note(database, 1, 1)
        assert notes(database) == [(1, 1)]


def test_what_cannot_be_opened_or_is_closed_is_one_line(path: Path) -> None:
    with pytest.raises(TenfoldError, match="cannot open the syncer's database"):
        FencedDatabase(path.parent / "gone" / "database.sqlite", NOTES)
    path.write_bytes(b"no database, but long enough to look at" * 100)
    with pytest.raises(TenfoldError, match="not a database"):
        FencedDatabase(path, NOTES)
    path.unlink()
    database = FencedDatabase(path, NOTES)
    database.close()
    with pytest.raises(TenfoldError, match="closed"):
        note(database, 1, 1)
    with pytest.raises(TenfoldError, match="closed"):
        notes(database)


def test_a_commit_is_synced_and_the_log_is_a_wal(path: Path) -> None:
    with contextlib.closing(FencedDatabase(path, NOTES)) as database:
        assert database.read("PRAGMA journal_mode") == [("wal",)]
        assert database.read("PRAGMA synchronous") == [(2,)]  # FULL


def test_many_threads_share_a_database(path: Path) -> None:
    errors: list[BaseException] = []

    def count_up() -> None:
        try:
            for _ in range(20):
                with database.write() as db:
                    largest = db.execute("SELECT coalesce(max(line), 0) FROM notes").fetchone()[0]
                    db.execute("INSERT INTO notes VALUES (0, ?)", (largest + 1,))
                assert notes(database)
        except BaseException as error:
            errors.append(error)

    with contextlib.closing(FencedDatabase(path, NOTES)) as database:
        threads = [threading.Thread(target=count_up) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert [line for _, line in notes(database)] == list(range(1, 121))


def test_of_many_that_open_a_new_database_at_once_one_can_write(path: Path) -> None:
    databases: list[FencedDatabase] = []
    barrier = threading.Barrier(6)

    def open_it() -> None:
        barrier.wait()
        databases.append(FencedDatabase(path, NOTES))

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(databases) == 6
    wrote = 0
    for line, database in enumerate(databases):
        with contextlib.suppress(Fenced):
            note(database, 0, line)
            wrote += 1
    for database in databases:
        database.close()
    assert wrote == 1
