"""E-values are fair while nothing is wrong, and an e-detector runs for 1/α steps at least."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.monitor.detect.evalues import (
    DRIFT_BETS,
    JUMP_BET,
    LARGEST,
    TAIL_SHARE,
    drift_e_value,
    jump_e_value,
    shiryaev_roberts,
)


def run_lengths(e_values: np.ndarray, threshold: float) -> list[int]:
    """Steps until the mean of the e-detectors alarms, again and again; [steps, streams] e-values."""
    wealth, lengths, since = np.zeros(e_values.shape[1]), [], 0
    for row in e_values:
        wealth, since = shiryaev_roberts(wealth, row), since + 1
        if wealth.mean() >= threshold:
            wealth, lengths, since = np.zeros_like(wealth), [*lengths, since], 0
    return [*lengths, since]


def pareto_excesses(random: np.random.Generator, tail: float, *shape: int) -> np.ndarray:
    """How far residuals lie above their threshold, exactly as the null of a jump has it."""
    above = (random.random(shape) ** -tail - 1) / tail
    return np.where(random.random(shape) < TAIL_SHARE, above, -1.0)


@pytest.mark.parametrize("tail", [0.1, 0.3, 1.0])
def test_the_run_length_of_jumps_at_the_edge_of_their_null_is_1_over_alpha(tail: float) -> None:
    above = pareto_excesses(np.random.default_rng(5), tail, 60_000, 8)
    lengths = run_lengths(jump_e_value(above, np.full(8, tail)), 100)
    # The last one is cut off, which makes the mean smaller: ten standard errors are far more than chance needs.
    assert np.mean(lengths) >= 100
    assert len(lengths) > 20  # it does alarm, so the bound was put to the test


@pytest.mark.parametrize("bet", range(len(DRIFT_BETS)))
def test_the_run_length_of_fair_scores_is_1_over_alpha_though_they_depend_on_each_other(bet: int) -> None:
    random = np.random.default_rng(3)
    signs = random.choice([-1.0, 1.0], (40_000, 4))
    size = 0.2  # depends on everything before: calm after calm, wild after wild; each score is fair given the past
    scores = np.zeros_like(signs)
    for row in range(len(signs)):
        scores[row] = size * signs[row]
        size = min(1.0, max(0.05, size * (1.2 if signs[row].sum() > 0 else 0.85)))
    e_values = np.array([drift_e_value(row)[bet] for row in scores])
    lengths = run_lengths(e_values, 50)
    assert np.mean(lengths) >= 50 and len(lengths) > 20


def test_expectations_under_the_edge_of_the_null_are_1() -> None:
    quantiles = (np.arange(2_000_000) + 0.5) / 2_000_000  # of the excess's distribution: an integral, not a sample
    for tail in (0.1, 0.5):
        above = (quantiles**-tail - 1) / tail
        inside = jump_e_value(above, np.full(1, tail)).mean()
        outside = float(jump_e_value(np.array([-1.0]), np.array([tail]))[0])
        assert outside == 1 - JUMP_BET
        # The integrand has a pole at 0 that a grid cuts off, so the grid's mean is a little low, and never high.
        assert 0.9 < TAIL_SHARE * inside + (1 - TAIL_SHARE) * outside <= 1
    assert np.allclose(drift_e_value(np.array([-1.0, 1.0])).mean(axis=1), 1)


def test_an_e_detector_is_the_sum_over_all_possible_beginnings() -> None:
    random = np.random.default_rng(1)
    e_values = random.lognormal(0, 0.5, 30)
    wealth = np.zeros(1)
    for e in e_values:
        wealth = shiryaev_roberts(wealth, np.array([e]))
    assert float(wealth[0]) == pytest.approx(sum(math.prod(e_values[first:]) for first in range(30)))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.floats(0.05, 1))
@settings(max_examples=50, deadline=None)
def test_e_values_are_never_negative_nor_infinite(scores: list[float], tail: float) -> None:
    for e_value in (jump_e_value(np.array(scores), np.full(len(scores), tail)), drift_e_value(np.array(scores))):
        assert (e_value >= 0).all()
        assert (shiryaev_roberts(np.full(len(scores), LARGEST), e_value) <= LARGEST).all()
