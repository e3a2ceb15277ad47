"""Leases: each sample is committed exactly once."""

import contextlib
import itertools
import tempfile
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
from tests.learners.syncer.killed import said_until_killed

LEASE_WRITER = """
import sys
from pathlib import Path
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.leases import Leases
leases = Leases(FencedDatabase(Path(sys.argv[1]), COORDINATOR_SCHEMA), 10**6)
incarnation = int(sys.argv[2])
while True:
    incarnation += 1
    for _ in range(3):
        lease = leases.grant(incarnation, 7, position=3, stride=2)
        numbers = (lease.number, incarnation, lease.first_sample, lease.samples, lease.position, lease.stride)
        print("granted", *numbers, flush=True)
    leases.settle(incarnation, 10)
    print("settled", incarnation, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def leases(path: Path) -> Iterator[Leases]:
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        yield Leases(database, 100)


def test_what_a_dead_incarnation_had_not_committed_is_handed_out_first(leases: Leases) -> None:
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
