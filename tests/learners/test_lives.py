"""Incarnations: numbers never used twice, one incarnation of a name at a time, ends that stand, strikes that bar."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.membership import Membership
from tenfold.learners.syncer.store import FencedDatabase

ORIGIN = {"kind": "peer", "life": 1, "step": 40}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "database.sqlite"


@pytest.fixture
def membership(path: Path) -> Iterator[Membership]:
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as database:
        yield Membership(database, max_strikes=2)


def test_a_incarnation_from_joining_to_its_end(membership: Membership) -> None:
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
    membership.begin_end(number, state, "no progress")
    membership.begin_end(number, "evicted", "another reason")
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
        new.begin_end(number, "evicted", "once more")
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
