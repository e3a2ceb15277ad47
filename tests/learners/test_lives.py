"""Lives: numbers never used twice, one life of a name at a time, ends that stand, strikes that bar."""

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
    return tmp_path / "book.sqlite"


@pytest.fixture
def lives(path: Path) -> Iterator[Membership]:
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as book:
        yield Membership(book, max_strikes=2)


def test_a_life_from_joining_to_its_end(lives: Membership) -> None:
    joined = lives.join("learner-0", "host:5000", 8)
    assert (joined.name, joined.address, joined.batch, joined.state) == ("learner-0", "host:5000", 8, "joining")
    assert (joined.origin, joined.ended_at, joined.reason, joined.steps) == (None, None, None, None)
    assert lives.active() == []
    assert lives.unfinished("learner-0") == joined
    lives.activate(joined.number, ORIGIN)
    active = lives.get(joined.number)
    assert (active.state, active.origin) == ("active", ORIGIN)
    assert lives.active() == [active]
    lives.end(joined.number, "finished", "all samples are trained", 120)
    over = lives.get(joined.number)
    assert (over.state, over.reason, over.steps, over.origin) == ("finished", "all samples are trained", 120, ORIGIN)
    assert over.ended_at is not None and over.ended_at >= over.joined_at
    assert lives.active() == []
    assert lives.unfinished("learner-0") is None


def test_a_learner_has_one_life_at_a_time_and_no_number_twice(lives: Membership) -> None:
    first = lives.join("learner-0", None, 8)
    with pytest.raises(TenfoldError, match=f"life {first.number} is not over; seal it"):
        lives.join("learner-0", None, 8)
    other = lives.join("learner-1", None, 4)
    lives.end(first.number, "sealed", "restarted", 0)
    again = lives.join("learner-0", None, 8)
    assert [life.number for life in lives.all()] == [first.number, other.number, again.number]
    assert first.number < other.number < again.number
    assert lives.unfinished("learner-0") == again


def test_only_a_joining_life_becomes_active(lives: Membership) -> None:
    number = lives.join("learner-0", None, 8).number
    lives.activate(number, None)
    with pytest.raises(TenfoldError, match="is active; only a joining one"):
        lives.activate(number, ORIGIN)
    lives.end(number, "left", "asked to", 3)
    with pytest.raises(TenfoldError, match="is left; only a joining one"):
        lives.activate(number, ORIGIN)
    assert lives.get(number).origin is None
    with pytest.raises(TenfoldError, match="no life 99"):
        lives.activate(99, None)


def test_the_first_end_stands(lives: Membership) -> None:
    number = lives.join("learner-0", None, 8).number
    lives.end(number, "sealed", "stood still for 60 s", 7)
    over = lives.get(number)
    lives.end(number, "sealed", "stood still for 60 s", 7)
    lives.end(number, "left", "said good-bye too late", 9)
    assert lives.get(number) == over
    with pytest.raises(TenfoldError, match="no life 99"):
        lives.end(99, "left", "", 0)


def test_strikes_bar_a_name_for_good_and_say_why(lives: Membership, path: Path) -> None:
    first, other = lives.join("learner-0", None, 8).number, lives.join("learner-1", None, 8).number
    assert lives.strike(first, "a movement with NaN") == 1
    assert lives.strike(first, "a movement with NaN") is None, "told twice, counted once"
    lives.end(first, "sealed", "quarantined", 0)
    assert lives.strike(other, "a movement with NaN") == 1
    lives.end(other, "sealed", "quarantined", 0)
    second = lives.join("learner-0", None, 8).number
    assert lives.strike(second, "a movement 50 times too long") == 2
    lives.end(second, "sealed", "quarantined", 0)
    with pytest.raises(TenfoldError, match="learner-0: barred after 2 strikes; the last one: a movement 50 times"):
        lives.join("learner-0", None, 8)
    assert lives.join("learner-1", None, 8).state == "joining"
    with (
        contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as book,
        pytest.raises(TenfoldError, match="barred after 2 strikes"),
    ):
        Membership(book, max_strikes=2).join("learner-0", None, 8)


@pytest.mark.parametrize(("state", "meanwhile"), [("sealed", "sealing"), ("left", "leaving")])
def test_an_end_that_has_begun_is_remembered_and_its_learner_may_join_again(
    lives: Membership, path: Path, state: Literal["sealed", "left"], meanwhile: str
) -> None:
    number = lives.join("learner-0", None, 8).number
    lives.activate(number, ORIGIN)
    lives.begin_end(number, state, "no progress")
    lives.begin_end(number, "sealed", "another reason")
    assert lives.active() == []
    assert lives.unfinished("learner-0") is None
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as book:
        new = Membership(book, max_strikes=2)
        (life,) = new.ending()
        assert (life.number, life.state, life.reason) == (number, meanwhile, "no progress")
        assert new.join("learner-0", None, 8).number > number
        new.end(number, state, "no progress", 5)
        assert new.ending() == []
        assert (new.get(number).state, new.get(number).steps) == (state, 5)
        new.begin_end(number, "sealed", "once more")
        assert new.get(number).state == state


def test_a_batch_of_nothing_is_refused(lives: Membership) -> None:
    with pytest.raises(TenfoldError, match="batch of 0"):
        lives.join("learner-0", None, 0)
    assert lives.all() == []


def test_everything_is_there_after_a_takeover_and_the_old_syncer_is_fenced(lives: Membership, path: Path) -> None:
    numbers = [lives.join(f"learner-{i}", f"host:{i}", 8).number for i in range(3)]
    lives.activate(numbers[0], ORIGIN)
    lives.end(numbers[1], "sealed", "hung", 5)
    with contextlib.closing(FencedDatabase(path, COORDINATOR_SCHEMA)) as book:
        new = Membership(book, max_strikes=2)
        assert new.all() == lives.all()
        assert new.join("learner-1", None, 8).number > max(numbers)
        with pytest.raises(TenfoldError, match="another syncer took over"):
            lives.activate(numbers[2], None)
        assert new.get(numbers[2]).state == "joining"
