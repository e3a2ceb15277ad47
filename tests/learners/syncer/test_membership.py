"""Numbers never used twice, one incarnation of a name at a time, ends that stand, strikes that bar; and who stalls."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.membership import Liveness, Membership
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.ledger import EndCause

ORIGIN = {"kind": "peer", "life": 1, "step": 40}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def membership(path: Path) -> Iterator[Membership]:
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        yield Membership(database, max_strikes=2)


def test_an_incarnation_from_joining_to_its_end(membership: Membership) -> None:
    joined = membership.join("learner-0", "host:5000", 8)
    assert (joined.name, joined.address, joined.batch, joined.state) == ("learner-0", "host:5000", 8, "joining")
    assert (joined.origin, joined.ended_at, joined.reason, joined.steps) == (None, None, None, None)
    assert membership.active() == []
    assert membership.unfinished("learner-0") == joined
    membership.activate(joined.number, ORIGIN)
    active = membership.get(joined.number)
    assert (active.state, active.origin) == ("active", ORIGIN)
    assert membership.active() == [active]
    membership.end(joined.number, "finished", "all samples are trained", 120)
    over = membership.get(joined.number)
    assert (over.state, over.reason, over.steps, over.origin) == ("finished", "all samples are trained", 120, ORIGIN)
    assert over.ended_at is not None and over.ended_at >= over.joined_at
    assert membership.active() == []
    assert membership.unfinished("learner-0") is None


def test_a_learner_has_one_incarnation_at_a_time_and_no_number_twice(membership: Membership) -> None:
    first = membership.join("learner-0", None, 8)
    with pytest.raises(TenfoldError, match=f"incarnation {first.number} is not over; end it"):
        membership.join("learner-0", None, 8)
    other = membership.join("learner-1", None, 4)
    membership.end(first.number, "evicted", "restarted", 0)
    again = membership.join("learner-0", None, 8)
    assert [incarnation.number for incarnation in membership.all()] == [first.number, other.number, again.number]
    assert first.number < other.number < again.number
    assert membership.unfinished("learner-0") == again


def test_only_a_joining_incarnation_becomes_active(membership: Membership) -> None:
    number = membership.join("learner-0", None, 8).number
    membership.activate(number, None)
    with pytest.raises(TenfoldError, match="is active; only a joining one"):
        membership.activate(number, ORIGIN)
    membership.end(number, "left", "asked to", 3)
    with pytest.raises(TenfoldError, match="is left; only a joining one"):
        membership.activate(number, ORIGIN)
    assert membership.get(number).origin is None
    with pytest.raises(TenfoldError, match="no incarnation 99"):
        membership.activate(99, None)


def test_the_first_end_stands(membership: Membership) -> None:
    number = membership.join("learner-0", None, 8).number
    membership.end(number, "evicted", "stood still for 60 s", 7)
    over = membership.get(number)
    membership.end(number, "evicted", "stood still for 60 s", 7)
    membership.end(number, "left", "said good-bye too late", 9)
    assert membership.get(number) == over
    with pytest.raises(TenfoldError, match="no incarnation 99"):
        membership.end(99, "left", "", 0)


def test_strikes_bar_a_name_for_good_and_say_why(membership: Membership, path: Path) -> None:
    first, other = membership.join("learner-0", None, 8).number, membership.join("learner-1", None, 8).number
    assert membership.strike(first, "a pseudo-gradient with NaN") == 1
    assert membership.strike(first, "a pseudo-gradient with NaN") is None, "told twice, counted once"
    membership.end(first, "evicted", "quarantined", 0)
    assert membership.strike(other, "a pseudo-gradient with NaN") == 1
    membership.end(other, "evicted", "quarantined", 0)
    second = membership.join("learner-0", None, 8).number
    assert membership.strike(second, "a pseudo-gradient 50 times too long") == 2
    membership.end(second, "evicted", "quarantined", 0)
    with pytest.raises(
        TenfoldError, match="learner-0: barred after 2 strikes; the last one: a pseudo-gradient 50 times"
    ):
        membership.join("learner-0", None, 8)
    assert membership.join("learner-1", None, 8).state == "joining"
    with (
        contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database,
        pytest.raises(TenfoldError, match="barred after 2 strikes"),
    ):
        Membership(database, max_strikes=2).join("learner-0", None, 8)


@pytest.mark.parametrize(("state", "meanwhile"), [("evicted", "evicting"), ("left", "leaving")])
def test_an_end_that_has_begun_is_remembered_and_its_learner_may_join_again(
    membership: Membership, path: Path, state: Literal["evicted", "left"], meanwhile: str
) -> None:
    number = membership.join("learner-0", None, 8).number
    membership.activate(number, ORIGIN)
    membership.begin_end(number, state, EndCause.STALLED, "no progress")
    membership.begin_end(number, "evicted", EndCause.REPLACED, "another reason")
    assert membership.active() == []
    assert membership.unfinished("learner-0") is None
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        new = Membership(database, max_strikes=2)
        (incarnation,) = new.ending()
        assert (incarnation.number, incarnation.state, incarnation.reason) == (number, meanwhile, "no progress")
        assert new.join("learner-0", None, 8).number > number
        new.end(number, state, "no progress", 5)
        assert new.ending() == []
        assert (new.get(number).state, new.get(number).steps) == (state, 5)
        new.begin_end(number, "evicted", EndCause.STALLED, "once more")
        assert new.get(number).state == state


def test_a_batch_of_nothing_is_refused(membership: Membership) -> None:
    with pytest.raises(TenfoldError, match="batch of 0"):
        membership.join("learner-0", None, 0)
    assert membership.all() == []


def test_everything_is_there_after_a_takeover_and_the_old_syncer_is_fenced(membership: Membership, path: Path) -> None:
    numbers = [membership.join(f"learner-{i}", f"host:{i}", 8).number for i in range(3)]
    membership.activate(numbers[0], ORIGIN)
    membership.end(numbers[1], "evicted", "hung", 5)
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        new = Membership(database, max_strikes=2)
        assert new.all() == membership.all()
        assert new.join("learner-1", None, 8).number > max(numbers)
        with pytest.raises(TenfoldError, match="another syncer took over"):
            membership.activate(numbers[2], None)
        assert new.get(numbers[2]).state == "joining"


def stepping(seconds: list[float], minimum: float = 2.0, factor: float = 3.0) -> tuple[Liveness, float]:
    """Incarnation 1 after steps of these lengths; (liveness, the time of its last step)."""
    liveness = Liveness(minimum, factor)
    liveness.started(1, 0.0)
    now = 0.0
    liveness.progress(1, now, 0, 0)
    for step, length in enumerate(seconds, start=1):
        now += length
        liveness.progress(1, now, step, 0)
    return liveness, now


def allowance(liveness: Liveness, now: float) -> float:
    """Seconds without progress until incarnation 1 counts as stalled, found by asking."""
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if liveness.stalled(now + middle) else (middle, high)
    return high


def test_a_hung_training_thread_with_a_healthy_heartbeat_is_stalled() -> None:
    liveness, now = stepping([1.0] * 5)
    for beat in range(1, 31):
        liveness.progress(1, now + beat / 10, 5, 0)
    assert liveness.stalled(now + 3.0) == []
    assert liveness.stalled(now + 3.1) == [(1, pytest.approx(3.1))]
    assert liveness.silence(1, now + 3.1) == pytest.approx(3.1)
    liveness.progress(1, now + 3.2, 6, 0)
    assert liveness.stalled(now + 3.3) == []


def test_a_process_that_is_gone_is_stalled() -> None:
    liveness, now = stepping([1.0] * 5)
    assert liveness.stalled(now + 60) == [(1, 60.0)]


def test_joining_may_take_thirty_times_the_minimum() -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.joining(1, 100.0)
    assert allowance(liveness, 100.0) == pytest.approx(60.0)
    liveness.started(1, 150.0)
    assert allowance(liveness, 150.0) == pytest.approx(20.0)


def test_to_wait_for_samples_is_no_stall_and_no_long_step() -> None:
    liveness, now = stepping([1.0] * 5)
    for waits in range(1, 41):
        now += 2.5
        liveness.progress(1, now, 5, waits)
        assert liveness.stalled(now + 2.5) == []
    liveness.progress(1, now + 1.0, 6, 40)
    assert allowance(liveness, now + 1.0) == pytest.approx(3.0)
    assert liveness.step_seconds(1) == pytest.approx(1.0)


def test_the_first_step_may_take_ten_times_the_minimum() -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.started(1, 100.0)
    assert liveness.stalled(120.0) == []
    assert liveness.stalled(120.5) == [(1, 20.5)]
    liveness.progress(1, 101.0, 0, 0)
    assert allowance(liveness, 101.0) == pytest.approx(20.0)


def test_a_step_slower_than_the_minimum_is_no_stall_from_the_second_on() -> None:
    liveness, now = stepping([15.0], minimum=2.0, factor=3.0)
    assert allowance(liveness, now) == pytest.approx(45.0)
    liveness.progress(1, now + 5.0, 2, 0)  # the first one was slow by compiling and is forgotten
    assert allowance(liveness, now + 5.0) == pytest.approx(15.0)


def test_a_restarted_watch_begins_anew() -> None:
    liveness, now = stepping([1.0] * 5)
    liveness.started(1, now)
    assert allowance(liveness, now) == pytest.approx(20.0)
    assert liveness.step_seconds(1) is None


def test_steps_faster_than_heartbeats_count_each() -> None:
    liveness, now = stepping([1.0, 1.0])
    liveness.progress(1, now + 4.0, 10, 0)
    assert liveness.step_seconds(1) == pytest.approx(median([1.0, 0.5]))


def test_the_dead_stay_forgotten_and_the_unknown_is_refused() -> None:
    liveness, now = stepping([1.0] * 5)
    liveness.forget(1)
    liveness.forget(1)
    liveness.progress(1, now + 1, 6, 0)
    assert liveness.stalled(now + 1000) == []
    for ask in (lambda: liveness.silence(1, now), lambda: liveness.step_seconds(1)):
        with pytest.raises(TenfoldError, match="incarnation 1 is not watched"):
            ask()


def test_incarnations_are_judged_each_by_its_own_pace() -> None:
    liveness = Liveness(1.0, 2.0)
    for incarnation, length in ((2, 10.0), (1, 1.0)):
        liveness.started(incarnation, 0.0)
        for step in range(4):
            liveness.progress(incarnation, step * length, step, 0)
    assert liveness.stalled(31.0) == [(1, 28.0)]
    assert liveness.stalled(51.0) == [(1, 48.0), (2, 21.0)]


@given(
    seconds=st.lists(st.floats(0.01, 50), min_size=2, max_size=60),
    minimum=st.floats(0.5, 20),
    factor=st.floats(1, 10),
    share=st.floats(0, 3),
)
def test_a_stall_is_what_exceeds_the_allowance_of_the_last_twenty_steps(seconds, minimum, factor, share) -> None:
    liveness, now = stepping(seconds, minimum, factor)
    allowed = max(minimum, factor * max(seconds[1:][-20:]))
    silence = share * allowed
    if abs(silence - allowed) > 1e-6 * allowed:
        assert bool(liveness.stalled(now + silence)) == (silence > allowed)
    assert liveness.step_seconds(1) == pytest.approx(median(seconds[1:][-20:]), rel=1e-6, abs=1e-6)


reports = st.tuples(st.floats(0, 100), st.integers(0, 5), st.integers(0, 3))


@given(beats=st.lists(reports, max_size=40), wait=st.floats(0, 100))
def test_whatever_is_reported_silence_counts_from_the_last_change_and_short_ones_are_no_stall(beats, wait) -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.started(1, 0.0)
    now, changed, last = 0.0, 0.0, None
    for gap, *report in beats:
        now += gap
        liveness.progress(1, now, *report)
        if report != last:
            changed, last = now, report
    now += wait
    assert liveness.silence(1, now) == pytest.approx(now - changed)
    assert not liveness.stalled(changed + 2.0 - 1e-6)
    assert liveness.stalled(changed + max(20.0, 3.0 * (now + 1.0)) + 1e-6)
