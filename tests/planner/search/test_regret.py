"""How far the order of layouts can be trusted."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy.special import ndtr

from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.search.layouts import FoundLayouts, search_layouts
from tenfold.planner.search.regret import MICRO_BATCH_SPREAD, OWN_SPREAD, TENSOR_SPREAD, draw_errors, regret
from tests.planner.search.examples import dense


@pytest.fixture(scope="module")
def found() -> FoundLayouts:
    return search_layouts(dense(), shipped_calibration(), top=10)


def test_trying_more_leaves_less_regret(found: FoundLayouts) -> None:
    told = regret(found)
    assert list(told.after) == sorted(told.after, reverse=True)
    assert told.first == told.after[0] > 0
    assert 0 < sum(told.chances) <= 1
    assert told.chances[0] == max(told.chances)
    assert told.tries >= 1


def test_the_same_seed_gives_the_same_answer(found: FoundLayouts) -> None:
    assert regret(found, seed=1) == regret(found, seed=1)
    assert regret(found, seed=1) != regret(found, seed=2)


def test_a_layout_far_ahead_is_taken_without_regret(found: FoundLayouts) -> None:
    ahead = np.concatenate([found.seconds[:1] / 1.9, found.seconds[1:]])
    told = regret(replace(found, seconds=ahead))
    assert told.chances[0] > 0.99
    assert told.first < 1e-3
    assert told.tries == 1


def test_two_alike_are_a_coin_toss(found: FoundLayouts) -> None:
    """Two layouts of different degrees and one forecast: the mean of exp(d) − 1 for positive, normal d."""
    two = replace(
        found,
        best=found.best[:2],
        places=(0, 1),
        seconds=np.array([1.0, 1.0]),
        tensor=np.array([1.0, 2.0]),
        micro_batch=np.array([1.0, 2.0]),
    )
    told = regret(two, draws=20000)
    spread = np.sqrt(2) * np.sqrt(TENSOR_SPREAD**2 + MICRO_BATCH_SPREAD**2 + OWN_SPREAD**2)
    assert told.chances == pytest.approx((0.5, 0.5), abs=0.02)
    assert told.first == pytest.approx(np.exp(spread**2 / 2) * ndtr(spread) - 0.5, rel=0.04)
    assert told.after[1] == 0
    assert told.tries == 2


def test_errors_are_shared_where_degrees_are() -> None:
    tensor, micro_batch = np.array([1.0, 1.0, 8.0]), np.array([2.0, 2.0, 4.0])
    errors = draw_errors(tensor, micro_batch, 20000, np.random.default_rng(0))
    alike, unlike = errors[:, 0] - errors[:, 1], errors[:, 0] - errors[:, 2]
    assert np.std(alike) == pytest.approx(np.sqrt(2) * OWN_SPREAD, rel=0.03)
    whole = np.sqrt(TENSOR_SPREAD**2 + MICRO_BATCH_SPREAD**2 + OWN_SPREAD**2)
    assert np.std(unlike) == pytest.approx(np.sqrt(2) * whole, rel=0.03)


def test_the_parts_of_an_error_make_up_the_interval(found: FoundLayouts) -> None:
    told = regret(found)
    width = float(np.log(found.best[0].high / found.best[0].seconds))
    assert told.own_spread**2 + told.common_spread**2 == pytest.approx(
        max((width / NormalDist().inv_cdf(0.95)) ** 2, told.own_spread**2)
    )
