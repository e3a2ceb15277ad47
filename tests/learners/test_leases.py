"""The syncer's database (one writer, whole transactions) and its leases (each sample committed exactly once)."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.messages import Lease
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.leases import Leases, SampleTotals
from tenfold.learners.syncer.store import Fenced, FencedDatabase

NOTES = "CREATE TABLE IF NOT EXISTS notes (batch INTEGER NOT NULL, line INTEGER NOT NULL, UNIQUE (batch, line));"
NOTES_PER_BATCH = 20

NOTE_WRITER = f"""
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
book = FencedDatabase(Path(sys.argv[1]), "")
batch = book.read("SELECT coalesce(max(batch), 0) FROM notes")[0][0]
while True:
    batch += 1
    with book.write() as db:
        for line in range({NOTES_PER_BATCH}):
            db.execute("INSERT INTO notes VALUES (?, ?)", (batch, line))
    print(batch, flush=True)
"""

LEASE_WRITER = """
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.leases import Leases
leases = Leases(FencedDatabase(Path(sys.argv[1]), COORDINATOR_SCHEMA), 10**6)
life = int(sys.argv[2])
while True:
    life += 1
    for _ in range(3):
        lease = leases.grant(life, 7, position=3, stride=2)
        numbers = (lease.number, life, lease.first_sample, lease.samples, lease.position, lease.stride)
        print("granted", *numbers, flush=True)
    leases.settle(life, 10)
    print("settled", life, flush=True)
"""

STOPPED_WRITER = """
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.learners.syncer.store import Fenced
book = FencedDatabase(Path(sys.argv[1]), "")
with book.write() as db:
    db.execute("INSERT INTO notes VALUES (1, 1)")
print("ready", flush=True)
sys.stdin.readline()
try:
    with book.write() as db:
        db.execute("INSERT INTO notes VALUES (2, 2)")
except Fenced:
    print("fenced", flush=True)
"""


@contextlib.contextmanager
def process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def said_until_killed(script: str, *args: object, after: float) -> list[list[str]]:
    """What a writer has said by the time of kill -9, `after` seconds after its first line."""
    with process(script, *args) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(after)
        child.kill()
        lines = first + child.stdout.read()
    whole = lines[: lines.rfind("\n") + 1]
    assert whole, "the writer never wrote"
    return [line.split() for line in whole.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


def note(database: FencedDatabase, batch: int, line: int) -> None:
    with database.write() as db:
        db.execute("INSERT INTO notes VALUES (?, ?)", (batch, line))


def notes(database: FencedDatabase) -> list[tuple[int, int]]:
    return database.read("SELECT batch, line FROM notes ORDER BY batch, line")


# The database


def test_the_older_of_two_books_never_writes_again(path: Path) -> None:
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


def test_a_block_that_raises_leaves_nothing_and_the_book_goes_on(path: Path) -> None:
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


def test_many_threads_share_a_book(path: Path) -> None:
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


def test_of_many_that_open_a_new_book_at_once_one_can_write(path: Path) -> None:
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


# Leases


@pytest.fixture
def leases(path: Path) -> Iterator[Leases]:
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        yield Leases(database, 100)


def test_what_a_dead_life_had_not_committed_is_handed_out_first(leases: Leases) -> None:
    assert leases.grant(1, 30, position=3, stride=2) == Lease(1, 1, 0, 30, 3, 2)
    assert leases.grant(2, 30, position=3, stride=2) == Lease(2, 2, 30, 30, 3, 2)
    assert leases.grant(1, 10, position=3, stride=2) == Lease(3, 1, 60, 10, 3, 2)
    leases.settle(1, 25)
    assert [leases.committed_by(number) for number in (1, 2, 3)] == [25, None, 0]
    assert leases.progress() == SampleTotals(total=100, granted=70, given_back=15, settled=25)
    assert leases.grant(3, 50, position=3, stride=2) == Lease(4, 3, 25, 5, 3, 2)
    # Samples 60–69 and the fresh ones after them are one range again.
    assert leases.grant(3, 50, position=3, stride=2) == Lease(5, 3, 60, 40, 3, 2)
    assert leases.is_exhausted
    assert leases.grant(3, 1, position=3, stride=2) is None
    leases.settle(2, 0)
    assert not leases.is_exhausted
    assert leases.granted_to(3) == 45
    assert [lease.number for lease in leases.of_incarnation(3)] == [4, 5]


def test_settling_is_idempotent_and_final(leases: Leases) -> None:
    leases.grant(1, 30, position=3, stride=2)
    with pytest.raises(TenfoldError, match="cannot have trained 31 of 30"):
        leases.settle(1, 31)
    with pytest.raises(TenfoldError, match="cannot have trained -1 of 30"):
        leases.settle(1, -1)
    leases.settle(1, 30)
    leases.settle(1, 30)
    with pytest.raises(TenfoldError, match="settled with 30 samples already, not 29"):
        leases.settle(1, 29)
    with pytest.raises(TenfoldError, match="incarnation 1 is over"):
        leases.grant(1, 1, position=3, stride=2)
    leases.settle(2, 0)  # an incarnation that never trained
    with pytest.raises(TenfoldError, match="incarnation 2 is over"):
        leases.grant(2, 1, position=3, stride=2)
    assert leases.progress() == SampleTotals(total=100, granted=30, given_back=0, settled=30)


def test_nonsense_is_refused(leases: Leases, path: Path) -> None:
    with pytest.raises(TenfoldError, match="asks for 0 samples"):
        leases.grant(1, 0, position=3, stride=2)
    with pytest.raises(TenfoldError, match="no lease 7"):
        leases.committed_by(7)
    with (
        contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database,
        pytest.raises(InputError, match="100 samples, not 99"),
    ):
        Leases(database, 99)


def test_leases_go_on_exactly_after_kill_9(path: Path) -> None:
    granted: dict[int, Lease] = {}
    settled: set[int] = set()
    for attempt in range(4):
        for kind, *numbers in said_until_killed(LEASE_WRITER, path, 1000 * attempt, after=0.017 * attempt):
            if kind == "granted":
                lease = Lease(*map(int, numbers))
                granted[lease.number] = lease
            else:
                settled.add(int(numbers[0]))
        with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
            leases = Leases(database, 10**6)
            incarnations = [incarnation for (incarnation,) in database.read("SELECT DISTINCT life FROM leases")]
            log = {lease.number: lease for incarnation in incarnations for lease in leases.of_incarnation(incarnation)}
            committed = {number: leases.committed_by(number) for number in log}
        assert granted.items() <= log.items()
        assert len(log) <= len(granted) + attempt + 1  # at most the one whose saying was cut off, each time
        for incarnation in settled:
            of_incarnation = [committed[number] for number in sorted(log) if log[number].incarnation == incarnation]
            assert sum(count or 0 for count in of_incarnation) == 10
        assert_no_sample_twice(log, committed)


def assert_no_sample_twice(log: dict[int, Lease], committed: dict[int, int | None]) -> None:
    """What incarnations hold or have committed are ranges that do not overlap."""
    held = []
    for number, lease in log.items():
        count = committed[number]
        held.append((lease.first_sample, lease.first_sample + (lease.samples if count is None else count)))
    ranges = sorted((first, end) for first, end in held if first < end)
    assert all(end <= first for (_, end), (first, _) in itertools.pairwise(ranges))


class AnyOrder(RuleBasedStateMachine):
    """Incarnations come, get leases, end with any count of committed samples; the syncer is replaced at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.databases: list[FencedDatabase] = []
        self.opened: list[Leases] = []
        self.log: dict[int, Lease] = {}
        self.over: dict[int, int] = {}
        self.alive: list[int] = []
        self.born = 0
        self.total = 0

    @initialize(total=st.integers(1, 80))
    def begin(self, total: int) -> None:
        self.total = total
        self.reopen()

    @rule()
    def reopen(self) -> None:
        """The old process is not even told."""
        self.databases.append(FencedDatabase(Path(self.folder.name) / "database.sqlite", COORDINATOR_SCHEMA))
        self.leases = Leases(self.databases[-1], self.total)
        self.opened.append(self.leases)

    @rule()
    @precondition(lambda self: len(self.opened) > 1 and self.alive)
    def the_old_process_wakes_up(self) -> None:
        old = self.opened[0]
        with pytest.raises(Fenced):
            old.grant(self.alive[0], 1, position=3, stride=2)
        with pytest.raises(Fenced):
            old.settle(self.alive[0], 0)

    @rule()
    def join(self) -> None:
        self.born += 1
        self.alive.append(self.born)

    @rule(which=st.integers(0, 9), samples=st.integers(1, 30))
    @precondition(lambda self: self.alive)
    def grant(self, which: int, samples: int) -> None:
        incarnation = self.alive[which % len(self.alive)]
        exhausted = self.leases.is_exhausted
        lease = self.leases.grant(incarnation, samples, position=3, stride=2)
        assert (lease is None) == exhausted
        if lease is None:
            return
        assert lease.incarnation == incarnation and 0 < lease.samples <= samples
        assert lease.number not in self.log
        self.log[lease.number] = lease

    @rule(which=st.integers(0, 9), share=st.floats(0, 1))
    @precondition(lambda self: self.alive)
    def end(self, which: int, share: float) -> None:
        incarnation = self.alive.pop(which % len(self.alive))
        granted = self.leases.granted_to(incarnation)
        with pytest.raises(TenfoldError):
            self.leases.settle(incarnation, granted + 1)
        self.over[incarnation] = round(share * granted)
        self.leases.settle(incarnation, self.over[incarnation])

    @rule(which=st.integers(0, 9))
    @precondition(lambda self: self.over)
    def end_again(self, which: int) -> None:
        incarnation = sorted(self.over)[which % len(self.over)]
        self.leases.settle(incarnation, self.over[incarnation])
        with pytest.raises(TenfoldError):
            self.leases.grant(incarnation, 1, position=3, stride=2)

    def committed(self) -> dict[int, int | None]:
        return {number: self.leases.committed_by(number) for number in self.log}

    @invariant()
    @precondition(lambda self: self.total)
    def the_log_keeps_every_lease_and_no_two_overlap(self) -> None:
        kept = [lease for incarnation in range(1, self.born + 1) for lease in self.leases.of_incarnation(incarnation)]
        assert {lease.number: lease for lease in kept} == self.log
        committed = self.committed()
        assert_no_sample_twice(self.log, committed)
        for incarnation in range(1, self.born + 1):
            counts = [committed[lease.number] for lease in self.leases.of_incarnation(incarnation)]
            assert (None in counts) == (incarnation in self.alive and bool(counts))
            assert incarnation in self.alive or sum(count or 0 for count in counts) == self.over[incarnation]

    @invariant()
    @precondition(lambda self: self.total)
    def the_totals_add_up(self) -> None:
        progress = self.leases.progress()
        held = sum(self.leases.granted_to(incarnation) for incarnation in self.alive)
        assert held == progress.granted - progress.given_back - progress.settled
        assert progress.settled == sum(self.over.values())
        assert self.leases.is_exhausted == (progress.granted - progress.given_back == self.total)

    def teardown(self) -> None:
        if self.total:
            self.finish()
        for database in self.databases:
            database.close()
        self.folder.cleanup()

    def finish(self) -> None:
        while self.alive:
            self.end(0, 1.0)
        self.join()
        while not self.leases.is_exhausted:
            self.grant(0, 30)
        self.end(0, 1.0)
        trained = [
            lease.first_sample + offset
            for number, lease in self.log.items()
            for offset in range(self.leases.committed_by(number) or 0)
        ]
        assert sorted(trained) == list(range(self.total))


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
