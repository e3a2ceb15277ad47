"""Each law: derivatives, coefficients recovered, the published fit, and what it cannot be fitted to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.scaling.isoflop import ISOFLOP
from tenfold.scaling.laws import DATA_CONSTRAINED, FRONTIER, HOFFMANN, LAWS, TIED
from tenfold.scaling.solve import HUBER_DELTA, huber
from tenfold.scaling.table import Points, RunTable
from tenfold.scaling.terms import COMPUTE, TermLaw
from tests.scaling.runs import KNOWN, grid, loss_by_known_law, made, published

TERM_LAWS = [law for law in LAWS if isinstance(law, TermLaw)]
PUBLISHED_DATABLATIONS = np.array([[0.6254804, 6.255414, 7.3049974, 0.3526596, np.log(15.387756), np.log(5.309743)]])


def ones(runs: RunTable, rows: int = 1) -> np.ndarray:
    return np.ones((rows, len(runs)))


def r_squared(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(1 - ((predicted - measured) ** 2).sum() / ((measured - measured.mean()) ** 2).sum())


@pytest.mark.parametrize("law", TERM_LAWS, ids=lambda law: law.name)
def test_derivatives_are_those_of_the_forecast(law) -> None:
    runs = published("datablations")
    at = law.fit(runs, ones(runs))
    slopes = law.evaluate(at, runs.points)[1]
    for index in range(at.shape[1]):
        step = np.zeros_like(at)
        step[0, index] = 1e-6
        numeric = (law.evaluate(at + step, runs.points)[0] - law.evaluate(at - step, runs.points)[0]) / 2e-6
        assert np.allclose(slopes[:, :, index], numeric, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(alpha=st.floats(0.25, 0.6), beta=st.floats(0.25, 0.6), floor=st.floats(1.0, 2.5))
def test_hoffmann_recovers_the_coefficients_that_made_the_runs(alpha: float, beta: float, floor: float) -> None:
    points = grid()
    truth = np.array([[np.log(floor), 17.0 * alpha, 20.0 * beta, alpha, beta]])
    runs = RunTable.of(points, np.exp(HOFFMANN.log_loss(truth, points)[0]))
    assert HOFFMANN.fit(runs, ones(runs)) == pytest.approx(truth, rel=2e-3, abs=1e-9)


def test_frontier_contains_hoffmann() -> None:
    runs, far = made(grid()), Points.of([1e10, 3e10], [1e12, 3e11])
    alpha, beta = KNOWN[0, 3:]
    found = FRONTIER.fit(runs, ones(runs))
    assert found[0, 3] == pytest.approx(alpha * beta / (alpha + beta), rel=0.03)
    assert found[0, 6] == pytest.approx(beta / (alpha + beta), rel=0.03)
    assert np.exp(FRONTIER.log_loss(found, far)[0]) == pytest.approx(loss_by_known_law(far), rel=2e-3)


def test_isoflop_finds_the_frontier_of_whole_budgets() -> None:
    c, off = np.meshgrid(np.geomspace(1e17, 1e20, 7), np.linspace(-0.7, 0.7, 7))
    n = np.exp(0.5 * np.log(c) - 3 + off).ravel()
    points = Points.of(n, c.ravel() / 6 / n)
    truth = np.array([[np.log(1.7), 5.0, 0.15, -3.0, 0.5, 0.4]])
    runs = RunTable.of(points, np.exp(ISOFLOP.log_loss(truth, points)[0]))
    found = ISOFLOP.fit(runs, ones(runs, 2))
    assert found[0] == pytest.approx(truth[0], rel=0.03)
    assert np.array_equal(found[0], found[1])


def test_isoflop_is_nan_where_no_budget_has_its_minimum_inside() -> None:
    runs = published("porian_tuned")
    thin = np.where(runs.points.n > np.median(runs.points.n), 1.0, 0.0)
    found = ISOFLOP.fit(runs, np.stack([np.ones(len(runs)), 0 * thin]))
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_published_coefficients_explain_repeated_data_as_published() -> None:
    runs = published("datablations")
    with_decay = np.exp(DATA_CONSTRAINED.log_loss(PUBLISHED_DATABLATIONS, runs.points)[0])
    without = np.exp(TIED.log_loss(PUBLISHED_DATABLATIONS[:, :4], runs.points)[0])
    assert r_squared(with_decay, runs.loss) == pytest.approx(0.77220, abs=1e-4)
    assert r_squared(without, runs.loss) == pytest.approx(0.44517, abs=1e-4)


def test_the_data_constrained_fit_is_at_least_as_good_as_the_published_one() -> None:
    runs = published("datablations")
    found = DATA_CONSTRAINED.fit(runs, ones(runs))

    def left(coefficients: np.ndarray) -> float:
        return float(huber(DATA_CONSTRAINED.log_loss(coefficients, runs.points) - runs.log_loss).sum())

    assert left(found) < left(PUBLISHED_DATABLATIONS)


def test_data_seen_once_is_worth_all_of_itself_and_repeats_less_and_less() -> None:
    tokens = np.array([1e9, 2e9, 8e9, 64e9])
    fresh = Points.of(np.full(4, 1e7), tokens)
    repeated = Points.of(np.full(4, 1e7), tokens, unique=np.full(4, 1e9))
    once, again = (DATA_CONSTRAINED.log_loss(PUBLISHED_DATABLATIONS, points)[0] for points in (fresh, repeated))
    assert once[0] == again[0] == pytest.approx(TIED.log_loss(PUBLISHED_DATABLATIONS[:, :4], fresh)[0, 0])
    assert (np.diff(again - once) > 0).all()


@settings(max_examples=20, deadline=None)
@given(more=st.floats(1.01, 1e3))
def test_fitted_laws_fall_with_more_data_and_with_more_compute(more: float) -> None:
    runs = made(grid(), noise=0.003)
    near, data, both = (Points.of(1e9, 2e10), Points.of(1e9, 2e10 * more), Points.of(1e9 * more, 2e10 * more))
    for law in (TIED, HOFFMANN):
        found = law.fit(runs, ones(runs))
        assert law.log_loss(found, data)[0, 0] < law.log_loss(found, near)[0, 0]
        assert law.log_loss(found, both)[0, 0] < law.log_loss(found, data)[0, 0]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_many_fits_at_once_are_each_of_them_alone(law) -> None:
    runs = published("datablations" if law is DATA_CONSTRAINED else "porian_tuned")
    drawn = np.random.default_rng(0).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=5).astype(float)
    near = law.fit(runs, ones(runs))
    together = law.fit(runs, drawn, near)
    for weights, row in zip(drawn, together, strict=True):
        alone = law.log_loss(law.fit(runs, weights[None], near), runs.points)
        assert law.log_loss(row[None], runs.points) == pytest.approx(alone, abs=2e-3)


def test_one_wild_run_hardly_moves_the_fit() -> None:
    runs = made(grid())
    wild = runs.log_loss.copy()
    wild[20] += 0.5
    spoiled = RunTable(runs.points, wild, runs.run, runs.line)
    assert HOFFMANN.fit(spoiled, ones(runs)) == pytest.approx(HOFFMANN.fit(runs, ones(runs)), rel=0.02)


def test_huber_is_square_inside_and_straight_outside() -> None:
    inside, edge = HUBER_DELTA / 3, HUBER_DELTA
    assert huber(np.array([inside, -inside])) == pytest.approx(inside**2 / 2)
    assert huber(np.array([10 * edge])) == pytest.approx(edge * (10 * edge - edge / 2))


@pytest.mark.parametrize(
    ("law", "points", "reason"),
    [
        (HOFFMANN, Points.of(np.geomspace(1e6, 1e9, 9), 20 * np.geomspace(1e6, 1e9, 9)), "N and D vary together"),
        (HOFFMANN, Points.of(np.geomspace(1e6, 1e9, 9), np.full(9, 1e10)), "1 different values of D, 3 needed"),
        (HOFFMANN, Points.of(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e9, 4)), "4 runs do not determine 5"),
        (COMPUTE, Points.of(np.full(5, 1e7), np.full(5, 1e9)), "1 different amounts of compute, 4 needed"),
        (DATA_CONSTRAINED, grid(), "no run repeats data"),
        (ISOFLOP, grid(), "budgets with 4 runs or more, 4 needed"),
    ],
)
def test_a_law_says_why_it_cannot_be_identified(law, points: Points, reason: str) -> None:
    assert reason in law.obstacle(made(points))
