"""Hangs and lemons: times and ends are given as values."""

import json

import numpy as np

from tenfold.ledger import IncidentKind
from tenfold.monitor.detect.table import Limits
from tenfold.monitor.detect.waiting import Hang, Lemons


def test_a_step_is_overdue_after_what_the_history_allows_and_not_before() -> None:
    hang = Hang()
    assert hang.allowed is None and hang.overdue(1e9) == []
    for step in range(1, 40):
        hang.stepped(step, 20.0 * step)
    assert hang.allowed == 8 * 20.0
    last = 20.0 * 39
    assert hang.overdue(last + 159) == []
    (finding,) = hang.overdue(last + 161)
    assert finding.payload.kind == IncidentKind.HANG and finding.payload.step == 39
    assert (finding.payload.value, finding.payload.expected) == (161, 160)
    resumed = Hang()
    resumed.load_state_dict(json.loads(json.dumps(hang.state_dict())))
    assert resumed.allowed == hang.allowed and resumed.overdue(1e9) == []  # no step of this process yet


def test_quick_steps_are_given_a_minute() -> None:
    hang = Hang()
    for step in range(10):
        hang.stepped(step, 0.01 * step)
    assert hang.overdue(60.0) == [] and len(hang.overdue(60.2)) == 1


def ends(lemons: Lemons, names: list[str]) -> list[str | None]:
    """Learners named, one end after the other."""
    return [finding.payload.learner for step, name in enumerate(names) for finding in lemons.ended(name, step)]


def test_a_learner_that_ends_again_and_again_is_a_lemon_and_bad_luck_is_not() -> None:
    lemons = Lemons()
    for number in range(8):
        lemons.joined(f"learner-{number}")
    often = ["learner-3", "learner-5", "learner-3", "learner-3", "learner-1", "learner-3", "learner-3", "learner-3"]
    assert ends(lemons, often) == ["learner-3"]
    row = Lemons()
    row.joined("b")
    assert ends(row, ["a"] * 3) == [] and ends(row, ["a"]) == ["a"]


def test_ends_that_hit_all_alike_are_rarely_a_lemon() -> None:
    random, limits = np.random.default_rng(1), Limits(lemon_ends=1_000)
    named, count = 0, 4000
    lemons = Lemons(limits)
    for number in range(16):
        lemons.joined(f"learner-{number}")
    for step in range(count):
        named += len(lemons.ended(f"learner-{random.integers(16)}", step))
    assert 0 < named <= count * limits.lemon_alarm


def test_the_ledger_of_lemons_goes_through_json() -> None:
    one, other = Lemons(), Lemons()
    ends(one, ["a", "b", "a"])
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.state_dict() == one.state_dict()
    assert ends(one, ["a", "a", "a", "a"]) == ends(other, ["a", "a", "a", "a"]) == ["a"]
