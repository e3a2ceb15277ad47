"""Reliability growth: the handbook's example and tables, coverage of the intervals, plans and lemons."""

import math

import numpy as np
import pytest
from scipy import stats

from tenfold.monitor.growth import (
    _cramer_von_mises,
    against_plan,
    crow_amsaa,
    lemons,
    mean_time_between,
    time_until,
)

HANDBOOK = (
    *(2.6, 16.5, 16.5, 17.0, 21.4, 29.1, 33.3, 56.5, 63.1, 70.6, 73.0, 77.7, 93.9, 95.5, 98.1, 101.1, 132.0, 142.2),
    *(147.7, 149.0, 167.2, 190.7, 193.0, 198.7, 251.9, 282.5, 286.1),
)
"""Hours of 27 failures in a test of 300 hours: the example of MIL-HDBK-189 for a time-terminated test."""


def test_the_example_of_the_handbook_comes_out() -> None:
    growth = crow_amsaa(HANDBOOK, 300)
    assert growth.beta.value == pytest.approx(0.716, abs=5e-4)
    assert growth.scale == pytest.approx(0.454, abs=5e-4)
    assert growth.beta_unbiased == pytest.approx(0.690, abs=5e-4)
    assert growth.trend == "improves" and growth.fit_p > 0.1
    logs = -np.log(np.array(HANDBOOK) / 300)
    assert _cramer_von_mises(logs[None])[0] == pytest.approx(0.091, abs=5e-4)


@pytest.mark.parametrize(
    ("count", "level", "low", "high"),
    [(3, 0.8, 0.333, 6.326), (3, 0.9, 0.263, 9.736), (4, 0.9, 0.312, 5.947), (10, 0.9, 0.476, 2.575)],
)
def test_the_interval_of_the_current_mtbf_is_the_handbooks_table(
    count: int, level: float, low: float, high: float
) -> None:
    current = crow_amsaa(np.linspace(10, 90, count).tolist(), 100, level).current
    assert current.low / current.value == pytest.approx(low, abs=6e-4)
    assert current.high / current.value == pytest.approx(high, abs=6e-4)


@pytest.mark.parametrize(("count", "critical"), [(3, 0.154), (10, 0.167), (20, 0.172), (60, 0.173)])
def test_the_goodness_of_fit_has_the_handbooks_critical_values(count: int, critical: float) -> None:
    logs = np.sort(np.random.default_rng(0).exponential(size=(100_000, count)), axis=1)[:, ::-1]
    assert np.quantile(_cramer_von_mises(logs), 0.9) == pytest.approx(critical, abs=2.5e-3)


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.4])
def test_intervals_cover_as_often_as_they_say(beta: float) -> None:
    random = np.random.default_rng(7)
    expected, covered = 15.0, np.zeros(2)
    tries = 0
    while tries < 400:
        count = random.poisson(expected)
        if count < 3:
            continue
        tries += 1
        growth = crow_amsaa((100 * random.random(count) ** (1 / beta)).tolist(), 100)
        truth = 100 / (expected * beta)
        covered += growth.beta.low <= beta <= growth.beta.high, growth.current.low <= truth <= growth.current.high
    assert stats.binom.cdf(covered[0], tries, 0.9) > 1e-4 and stats.binom.sf(covered[0] - 1, tries, 0.9) > 1e-4
    assert stats.binom.cdf(covered[1], tries, 0.9) > 1e-4  # exact by a discrete count: it covers more often


def test_failures_in_two_bursts_do_not_fit() -> None:
    bursts = [10 + 0.01 * i for i in range(15)] + [90 + 0.01 * i for i in range(15)]
    assert crow_amsaa(bursts, 100).fit_p < 0.01


def test_worse_is_told_from_better_and_steady() -> None:
    late = [100 * (i / 20) ** (1 / 3) for i in range(1, 20)]
    early = [100 * (i / 20) ** 3 for i in range(1, 20)]
    even = [5.0 * i for i in range(1, 20)]
    assert [crow_amsaa(times, 100).trend for times in (late, early, even)] == ["worsens", "improves", "steady"]
    assert crow_amsaa(early, 100).trend_p < 0.01 < crow_amsaa(even, 100).trend_p


def test_the_time_between_failures_has_the_exact_interval() -> None:
    found = mean_time_between(10, 1000.0)
    assert found.value == 100
    assert stats.poisson.sf(9, 1000 / found.high) == pytest.approx(0.05)
    assert stats.poisson.cdf(10, 1000 / found.low) == pytest.approx(0.05)
    none = mean_time_between(0, 1000.0)
    assert math.isinf(none.value) and math.isinf(none.high)
    assert math.exp(-1000 / none.low) == pytest.approx(0.1)


def test_the_goal_is_reached_where_the_fitted_law_says() -> None:
    growth = crow_amsaa(HANDBOOK, 300)
    reached = time_until(growth, 30.0)
    beta = growth.beta.value
    assert reached.value ** (1 - beta) / (growth.scale * beta) == pytest.approx(30.0)
    assert reached.low < reached.value < reached.high
    assert time_until(growth, 5.0).value < 300
    steady = time_until(crow_amsaa([5.0 * i for i in range(1, 20)][::-1], 100), 1e6)
    assert math.isinf(steady.high)


def test_a_plan_is_compared_exactly() -> None:
    found = against_plan(12, 100.0, 0.05)
    assert found.expected == 5 and found.ratio.value == pytest.approx(2.4)
    assert found.p == pytest.approx(2 * stats.poisson.sf(11, 5)) and found.ratio.low > 1
    assert against_plan(0, 100.0, 0.001).p == 1


def test_a_lemon_is_who_fails_beyond_its_time() -> None:
    totals = {"a": 100.0, "b": 100.0, "c": 100.0, "d": 0.0}
    found = lemons({"a": 9, "b": 1, "d": 5}, totals)
    assert [each.name for each in found] == ["a", "b", "c"]
    assert found[0].p == pytest.approx(stats.binom.sf(8, 10, 1 / 3)) and found[0].adjusted_p == 3 * found[0].p
    assert [each.is_lemon() for each in found] == [True, False, False]
    assert not any(each.is_lemon() for each in lemons({"a": 9, "b": 1}, {"a": 900.0, "b": 100.0}))


def test_among_equals_a_lemon_is_rare() -> None:
    random = np.random.default_rng(3)
    names = [f"learner-{i}" for i in range(8)]
    false = sum(
        any(each.is_lemon() for each in lemons(dict(zip(names, map(int, drawn), strict=True)), dict.fromkeys(names, 5)))
        for drawn in random.poisson(3.0, (300, 8))
    )
    assert stats.binom.sf(false - 1, 300, 0.05) > 1e-3


@pytest.mark.parametrize(("times", "total"), [([1.0, 2.0], 10.0), ([1.0, 2.0, 11.0], 10.0), ([1.0, 2.0, -1.0], 10.0)])
def test_what_cannot_be_fitted_is_refused(times: list[float], total: float) -> None:
    with pytest.raises(ValueError, match="at least 3 are needed"):
        crow_amsaa(times, total)
    with pytest.raises(ValueError, match="above 0"):
        mean_time_between(1, 0.0)
