"""The answer on reliability, and its text."""

import json

import pytest

from tenfold.cli.options import finite
from tenfold.monitor.failures import AtWork, Failure, History
from tenfold.monitor.reliability import HOUR, reliability_lines, reliability_of


def improving() -> History:
    """Two runs at once for 50 hours; 20 failures whose gaps grow, most of them of one learner."""
    times = [50 * HOUR * (i / 21) ** 3 for i in range(1, 21)]
    failures = tuple(Failure(at, "died" if i % 4 else "stalled", f"l{i % 4 and 1}") for i, at in enumerate(times))
    lives = (AtWork(0, 50 * HOUR, "l0"), AtWork(0, 50 * HOUR, "l1"), AtWork(0, 50 * HOUR, "l2"))
    return History(failures, (AtWork(0, 50 * HOUR), AtWork(0, 50 * HOUR)), lives)


def test_runs_at_the_same_time_count_each() -> None:
    found = reliability_of(improving())
    assert found.hours == 100 and found.failures == 20
    assert found.between is not None and found.between.value == 5


def test_time_at_rest_does_not_count() -> None:
    resting = (AtWork(0, 10 * HOUR), AtWork(1000 * HOUR, 1010 * HOUR))
    failures = tuple(Failure(hour * HOUR, "killed") for hour in (2, 4, 1005, 2000))
    found = reliability_of(History(failures, resting, ()))
    assert found.hours == 20 and found.causes == {"killed": (2, 0, 0, 2)}


def test_it_says_trend_goal_plan_causes_and_lemons() -> None:
    found = reliability_of(improving(), goal=60, planned_rate=0.05)
    text = "\n".join(reliability_lines(found))
    assert "20 failures in 4d04h" in text and "it improves" in text
    assert "20 where 5 were expected: 4×" in text and "further operating time" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["died", "15", "9", "3", "2", "1"] in rows
    assert [row[-1] for row in rows if row and row[0] == "l1"] == ["lemon"]
    assert found.causes["died"][0] > found.causes["died"][-1]
    assert [each.name for each in found.lemons if each.is_lemon()] == ["l1"]
    record = json.loads(json.dumps(finite(found.to_dict()), allow_nan=False))
    assert record["growth"]["trend"] == "improves" and record["lemons"][0]["is_lemon"] is True
    assert record["reached"]["value"] == pytest.approx(found.reached.value if found.reached else 0)


def test_a_goal_that_is_reached_says_so() -> None:
    assert any("reached by the fit" in line for line in reliability_lines(reliability_of(improving(), goal=0.1)))


def test_few_failures_have_no_trend_and_no_run_says_so() -> None:
    few = reliability_of(History((Failure(5, "failed"),), (AtWork(0, HOUR),), ()))
    assert few.growth is None and any("too few failures" in line for line in reliability_lines(few))
    assert reliability_lines(reliability_of(History((), (), ()))) == ["no run has been at work yet"]
    none = reliability_of(History((), (AtWork(0, HOUR),), ()))
    assert reliability_lines(none)[0] == "0 failures in 1h00m of operating time"
