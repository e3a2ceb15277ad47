"""When contributions are merged, what they weigh, and which are refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.learners.syncer.merge_policy import (
    AdaptiveGrace,
    AwakeClock,
    NormGuard,
    ThroughputShares,
    merge_time,
    root_mean_square,
)


def paced(rates: dict[int, float], rounds: int = 6) -> ThroughputShares:
    """Learners that contribute every 10 s, one after another, rates in tokens per second."""
    pace = ThroughputShares()
    for number in range(rounds):
        for incarnation, rate in rates.items():
            pace.note(incarnation, 10.0 * number + incarnation, round(10 * rate))
    return pace


def test_a_pseudo_gradient_weighs_its_learners_share_of_all_training_whatever_the_order() -> None:
    pace = paced({1: 100.0, 2: 100.0, 3: 200.0})
    assert [pace.share(incarnation, (1, 2, 3)) for incarnation in (1, 2, 3)] == pytest.approx([0.25, 0.25, 0.5])
    assert pace.share(1, (1,)) == 1.0, "alone"
    assert pace.share(1, (1, 3)) == pytest.approx(1 / 3), "the second has died"
    assert pace.share(9, (1, 2, 9)) == pytest.approx(1 / 3), "a new one counts as the mean of the others"
    assert ThroughputShares().share(1, (1, 2, 3, 4)) == 0.25, "the very first contribution"


def test_one_that_comes_late_with_the_work_of_a_minute_weighs_as_usual() -> None:
    pace = paced({1: 100.0, 2: 100.0})
    for number in range(6, 12):
        pace.note(1, 10.0 * number + 1, 1000)
    pace.note(2, 112.0, 6000)
    assert pace.share(2, (1, 2)) == pytest.approx(0.5)


@given(rates=st.dictionaries(st.integers(0, 9), st.floats(1.0, 1e4), min_size=1))
def test_weights_of_a_whole_round_sum_to_one(rates: dict[int, float]) -> None:
    pace = paced(rates)
    assert sum(pace.share(incarnation, rates) for incarnation in rates) == pytest.approx(1.0)


def test_a_merge_waits_for_the_quorum_then_for_those_who_usually_come() -> None:
    grace = AdaptiveGrace(limit=1.0)
    assert merge_time({}, {1, 2}, 1, grace) == math.inf
    assert merge_time({1: 5.0}, {1, 2}, 2, grace) == math.inf
    assert merge_time({1: 5.0}, {1, 2}, 0, grace) == math.inf
    assert merge_time({1: 5.0, 2: 6.0}, {1, 2}, 0, grace) == 6.0
    assert merge_time({1: 5.0}, {1}, 3, grace) == 5.0  # fewer alive than the quorum: all of them
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == 6.0  # not known yet: up to the limit
    rounds(grace, 5, late=0.2)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == pytest.approx(5.3)
    rounds(grace, 30, late=20.0)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == 5.0  # too slow to wait for
    rounds(grace, 30, late=0.4)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == pytest.approx(5.6)  # and fast again


def rounds(grace: AdaptiveGrace, count: int, late: float) -> None:
    """Rounds of two learners with quorum 1 as they go: the second comes when it comes, merged or missed."""
    for number in range(count):
        first = 100.0 * number
        grace.arrived(1, first)
        grace.quorum(first)
        merged_at = merge_time({1: first}, {1, 2}, 1, grace)
        if first + late > merged_at:
            grace.merged([1])
        grace.arrived(2, first + late)
        grace.quorum(first + late)
        grace.merged([1, 2] if first + late <= merged_at else [2])


def test_rounding_after_a_standstill_is_no_outlier() -> None:
    guard, part = NormGuard(10.0), (0, 0, 1)
    for _ in range(20):
        guard.note(part, 0.0, 100)
    assert guard.check(part, 3e-8, 100, weights_norm=0.5) is None
    assert guard.check(part, 1e-3, 100, weights_norm=0.5) is not None


def test_the_guard_knows_the_usual_norm() -> None:
    guard, part = NormGuard(10.0), (0, 0, 1)
    assert guard.check(part, 5.0, 64, weights_norm=1.0) is None
    assert "the weights" in str(guard.check(part, 11.0, 64, weights_norm=1.0))
    for _ in range(8):
        guard.note(part, 0.01, 64)
    assert guard.check(part, 0.09, 64, weights_norm=1.0) is None
    assert guard.check(part, 0.09, 32, weights_norm=1.0) is None
    assert "recent contributions" in str(guard.check(part, 0.11, 64, weights_norm=1.0))
    assert guard.check(part, 0.9, 640, weights_norm=1.0) is None, "ten times the tokens may move ten times as far"
    assert "recent contributions" in str(guard.check(part, 1.1, 640, weights_norm=1.0))
    assert math.isinf(root_mean_square(torch.full((3,), math.inf)))
    assert root_mean_square(torch.full((3,), 3e38)) == pytest.approx(3e38)


def test_a_clock_that_stood_still_or_jumped_does_not_change_the_weights() -> None:
    """Four learners contribute in turn; before the last round the machine is suspended for eight hours."""
    at = [0.0]
    clock, shares = AwakeClock(source=lambda: at[0]), ThroughputShares()
    for step in range(400):
        at[0] += 1.0 if step != 390 else 8 * 3600.0
        shares.note(step % 4, clock.now(), 1000)
    weights = [shares.share(each, range(4)) for each in range(4)]
    assert sum(weights) == pytest.approx(1.0)
    assert min(weights) > 0.15, weights


def test_an_awake_clock_goes_on_and_never_back() -> None:
    times = iter([10.0, 11.0, 10.5, 11.5, 1e9])
    clock = AwakeClock(100.0, source=lambda: next(times))
    assert [clock.now() for _ in range(4)] == [101.0, 101.0, 102.0, 104.0]
