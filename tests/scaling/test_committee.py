"""From a table to a forecast: choice by backtest, intervals, the best split, effective compute, refusals."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.scaling.backtest import (
    HORIZONS,
    REACH,
    VIEWS,
    Backtest,
    View,
    excess_over_frontier,
    fit_candidates,
    run_backtest,
)
from tenfold.scaling.committee import LEVELS, USUAL_DRIFT, WIDEST_BY_DECADE, WIDEST_NEAR, bootstrap, seed_noise
from tenfold.scaling.laws import HOFFMANN
from tenfold.scaling.multiplier import effective_compute, effective_data
from tenfold.scaling.predict import ScalingLaw, compute_optimal, fit_scaling_law
from tenfold.scaling.table import Points, RunTable
from tenfold.scaling.terms import as_new_tokens
from tests.scaling.runs import KNOWN, grid, loss_by_known_law, made, published, split_at_tenth


@pytest.fixture(scope="module")
def known() -> ScalingLaw:
    return fit_scaling_law(made(grid(), noise=0.003))


def bits(law: ScalingLaw, points: Points) -> list[bytes]:
    return [law.log_loss(points).tobytes(), *(law.half_widths(points, level).tobytes() for level in LEVELS)]


def test_it_forecasts_beyond_runs_of_a_known_law() -> None:
    far = Points.of([3e9, 2e9, 8e9], [6e10, 4e11, 1e11])
    law = fit_scaling_law(made(grid(), noise=0.001))
    assert np.exp(law.log_loss(far)) == pytest.approx(loss_by_known_law(far), rel=0.005)


@pytest.mark.parametrize(("name", "median"), [("porian_tuned", 0.01), ("gadre_c4", 0.03), ("datablations", 0.03)])
def test_held_out_runs_of_published_tables_are_forecast(name: str, median: float) -> None:
    below, above = split_at_tenth(published(name))
    law = fit_scaling_law(below)
    error = np.abs(law.log_loss(above.points) - above.log_loss)
    assert np.median(error) < median
    assert np.mean(error <= law.half_widths(above.points, 0.95)) > 0.8
    last = np.abs(below.log_loss[-1] - above.log_loss)
    assert np.median(error) < np.median(last) / 2


def test_the_same_runs_in_any_order_give_the_same_bits() -> None:
    runs = published("gadre_c4")
    points = Points.of([1e9, 1e10], [1e11, 1e12])
    shuffled = np.random.default_rng(1).permutation(len(runs))
    mixed = RunTable.of(runs.points.take(shuffled), runs.loss[shuffled])
    first = bits(fit_scaling_law(runs, seed=3), points)
    assert first == bits(fit_scaling_law(runs, seed=3), points)
    exact = dataclasses.replace(mixed, log_loss=runs.log_loss)  # exp and log again may differ in the last bit
    assert first == bits(fit_scaling_law(exact, seed=3), points)
    assert first != bits(fit_scaling_law(runs, seed=4), points)


@settings(max_examples=30, deadline=None)
@given(n=st.floats(1e7, 1e11), d=st.floats(1e8, 1e13))
def test_intervals_nest_and_hold_the_expected_loss(n: float, d: float, known: ScalingLaw) -> None:
    [forecast] = known.forecast(known.points(n, d))
    edges = [forecast.intervals[level] for level in LEVELS]
    assert all(outer[0] <= inner[0] <= forecast.loss <= inner[1] <= outer[1] for inner, outer in pairwise(edges))


@pytest.mark.parametrize("name", ["porian_tuned", "gadre_c4", "datablations"])
def test_intervals_grow_with_the_distance(name: str) -> None:
    law = fit_scaling_law(published(name))
    largest = math.exp(law.runs.points.c.max())
    path = [compute_optimal(law, largest * times) for times in (1, 10, 100, 1000)]
    widths = [law.half_widths(point, 0.8)[0] for point in path]
    assert widths == sorted(widths) and widths[3] > 2 * widths[0]


def test_the_choice_is_by_backtest_and_not_by_fit() -> None:
    runs = published("porian_tuned")
    law = fit_scaling_law(runs)
    errors = [score.error for score in law.ranking]
    assert errors == sorted(errors)
    assert law.committee.best == law.ranking[0].candidate
    left = {
        candidate.law.name: np.abs(candidate.law.log_loss(found, runs.points) - runs.log_loss).mean()
        for candidate, found in law.committee.members
    }
    assert len(left) > 1  # several forms had a say


def test_origins_never_see_what_they_are_scored_on() -> None:
    backtest = run_backtest(published("porian_tuned"))
    assert len(backtest.origins) == len(HORIZONS)
    for origin in backtest.origins:
        assert origin.below.points.c.max() < origin.scored.points.c.min()
        assert (origin.distance > 0).all() and (origin.distance <= REACH + 0.5).all()


def test_a_fixed_recipe_is_forecast_from_compute_alone() -> None:
    n = np.geomspace(3e6, 1e9, 12)
    runs = made(Points.of(n, 20 * n), noise=0.002)
    law = fit_scaling_law(runs)
    assert law.committee.best.law.name == "compute"
    assert "N and D vary together" in law.skipped["hoffmann"]
    best = compute_optimal(law, 1e21)
    assert math.exp((best.d - best.n)[0]) == pytest.approx(20, rel=0.01)
    assert math.exp(best.c[0]) == pytest.approx(1e21)
    [forecast] = law.forecast(best)
    low, high = forecast.intervals[0.95]
    assert low < loss_by_known_law(best)[0] < high
    [lopsided] = law.forecast(law.points(1e8, 1e12))
    assert any("tokens per parameter" in note for note in lopsided.notes)


def test_the_best_split_is_hoffmanns(known: ScalingLaw) -> None:
    _, a, b, alpha, beta = KNOWN[0]
    compute = 1e22
    scale = ((alpha * math.exp(a)) / (beta * math.exp(b))) ** (1 / (alpha + beta))
    expected = scale * (compute / 6) ** (beta / (alpha + beta))  # arXiv 2203.15556, equation 4
    best = compute_optimal(known, compute)
    assert math.exp(best.n[0]) == pytest.approx(expected, rel=0.25)
    assert math.exp(best.c[0]) == pytest.approx(compute)
    other = [known.log_loss(known.points(math.exp(best.n[0]) * x, math.exp(best.d[0]) / x))[0] for x in (0.5, 2)]
    assert min(other) > known.log_loss(best)[0]


@settings(max_examples=20, deadline=None)
@given(times=st.floats(0.05, 50.0))
def test_effective_compute_and_data_undo_the_law(times: float, known: ScalingLaw) -> None:
    n, d = 3e8, 6e9
    compute = math.exp(known.log_loss(known.points(n * math.sqrt(times), d * math.sqrt(times)))[0])
    data = math.exp(known.log_loss(known.points(n, d * times))[0])
    for multiple in (effective_compute(known, n, d, compute), effective_data(known, n, d, data)):
        assert multiple.value == pytest.approx(times, rel=1e-3)
        assert multiple.low < multiple.value < multiple.high


def test_a_band_that_widens_far_from_the_runs_still_bounds_the_multiple_from_below() -> None:
    reference = fit_scaling_law(published("gadre_c4"))
    multiple = effective_data(reference, 3e8, 6e9, 3.05)
    assert 0.3 < multiple.low < multiple.value < multiple.high < 10
    assert str(multiple) == f"{multiple.value:.3g}x [{multiple.low:.3g}, {multiple.high:.3g}]"


def test_a_loss_below_the_floor_is_worth_infinitely_much(known: ScalingLaw) -> None:
    assert effective_compute(known, 1e9, 2e10, 0.5).value == math.inf
    with pytest.raises(InputError, match="loss = nan: must be a finite number above 0"):
        effective_compute(known, 1e9, 2e10, math.nan)
    with pytest.raises(InputError, match=r"level = 0\.9: must be one of 0\.5, 0\.8, 0\.95"):
        effective_compute(known, 1e9, 2e10, 3.0, level=0.9)


def test_repeated_seeds_give_the_seed_noise() -> None:
    points = grid(20, 20)
    twice = Points(*(np.concatenate([values, values]) for values in (points.n, points.d, points.c, points.u)))
    assert seed_noise(made(twice, noise=0.004)) == pytest.approx(0.004, rel=0.1)
    assert seed_noise(made(points, noise=0.004)) is None


def test_rows_of_one_run_are_drawn_together() -> None:
    points = grid()
    alone = made(points, noise=0.004)
    clustered = RunTable.of(points, loss_by_known_law(points), run=np.repeat(np.arange(8), 6).tolist())
    clustered = dataclasses.replace(clustered, log_loss=alone.log_loss)
    candidate = fit_scaling_law(alone, laws=[HOFFMANN]).committee.best
    candidate = dataclasses.replace(candidate, view=VIEWS[0])
    found = HOFFMANN.fit(alone, np.ones((1, len(alone))))
    far = Points.of(1e10, 2e11)

    def spread(runs: RunTable) -> float:
        return float(np.std(HOFFMANN.log_loss(bootstrap(runs, candidate, found, 200, 0), far)))

    assert spread(clustered) != pytest.approx(spread(alone), rel=1e-6)


def test_bootstrap_spread_is_that_of_fresh_noise() -> None:
    points, far = grid(), Points.of(1e10, 2e11)
    candidate = dataclasses.replace(fit_scaling_law(made(points, 0.004), laws=[HOFFMANN]).committee.best, view=VIEWS[0])
    fresh = [HOFFMANN.fit(made(points, 0.004, seed), np.ones((1, len(points)))) for seed in range(60)]
    truth = np.std([HOFFMANN.log_loss(found, far)[0, 0] for found in fresh])
    drawn = bootstrap(made(points, 0.004), candidate, fresh[0], 300, 0)
    assert np.std(HOFFMANN.log_loss(drawn, far)) == pytest.approx(truth, rel=0.5)


def test_a_candidate_is_neither_struck_nor_the_better_for_the_origins_it_was_not_scored_at() -> None:
    runs = published("gadre_c4")
    backtest, fits = run_backtest(runs), fit_candidates(runs)
    whole = backtest.ranking(fits)
    assert {score.candidate for score in whole} == set(fits)
    hard = max(range(len(backtest.origins)), key=lambda at: _mean_error(backtest, at))
    fullest = max(score.origins for score in whole)
    some = next(score.candidate for score in whole if score.origins == fullest)
    fewer = {key: errors for key, errors in backtest.errors.items() if key != (some, hard)}
    again = {score.candidate: score for score in dataclasses.replace(backtest, errors=fewer).ranking(fits)}
    before = next(score for score in whole if score.candidate == some)
    assert again[some].origins == before.origins - 1
    assert again[some].error == pytest.approx(before.error, rel=0.3)  # the plain mean would fall by more
    unseen = {key: errors for key, errors in backtest.errors.items() if key[0] != some}
    last = {score.candidate: score for score in dataclasses.replace(backtest, errors=unseen).ranking(fits)}
    assert last[some].origins == 0 and math.isfinite(last[some].error)


def _mean_error(backtest: Backtest, at: int) -> float:
    return float(np.mean([np.abs(errors).mean() for (_, index), errors in backtest.errors.items() if index == at]))


def test_where_nothing_was_backtested_the_usual_error_chooses() -> None:
    fits = fit_candidates(published("gadre_c4"))
    ranking = Backtest((), {}, {}).ranking(fits)
    assert ranking[0].candidate == min(fits, key=lambda candidate: candidate.handicap)
    assert all(score.origins == 0 for score in ranking)


def test_the_drift_is_the_usual_one_moved_by_the_tables_own_errors() -> None:
    steady = fit_scaling_law(made(grid(), noise=1e-4)).calibration.drift
    wild = fit_scaling_law(made(grid(), noise=0.05)).calibration.drift
    assert steady < USUAL_DRIFT < wild
    none = fit_scaling_law(made(Points.of(np.geomspace(1e6, 1e8, 5), np.geomspace(1e7, 1e9, 5))))
    assert none.calibration.origins == 0 and none.calibration.drift == pytest.approx(USUAL_DRIFT)


def test_no_interval_is_wider_than_says_anything_and_a_cut_is_said() -> None:
    sound = fit_scaling_law(published("gadre_c4"), replicates=30)
    assert not any("hardly determine" in note for note in sound.forecast(sound.points(1e10, 2e11))[0].notes)
    noisy = dataclasses.replace(sound, calibration=dataclasses.replace(sound.calibration, noise=3.0))
    target = noisy.points(1e10, 2e11)
    beyond = (target.c[0] - noisy.runs.points.c.max()) / math.log(10)
    assert noisy.half_widths(target, 0.8)[0] <= WIDEST_NEAR + WIDEST_BY_DECADE * beyond + 1e-9
    [forecast] = noisy.forecast(target)
    assert any("hardly determine" in note for note in forecast.notes)


def test_data_seen_absurdly_often_make_no_absurd_interval() -> None:
    law = fit_scaling_law(made(grid(), noise=0.002), replicates=30)
    again = law.points(1e9, 1e10, 5.0)
    assert law.half_widths(again, 0.8)[0] <= WIDEST_NEAR + WIDEST_BY_DECADE * 2
    assert any("hardly determine" in note for note in law.forecast(again)[0].notes)


@pytest.mark.parametrize("fixed", ["N", "D"])
def test_a_family_at_constant_n_or_d_is_forecast_along_itself_with_a_word_on_the_other(fixed: str) -> None:
    several = np.geomspace(7e7, 1.2e10, 9)
    points = Points.of(several, np.full(9, 3e11)) if fixed == "D" else Points.of(np.full(9, 1e8), 20 * several)
    law = fit_scaling_law(made(points, noise=0.002))
    best = compute_optimal(law, 10 * math.exp(law.runs.points.c.max()))
    same = {"N": best.n - points.n[0], "D": best.d - points.d[0]}[fixed]
    assert same[0] == pytest.approx(0.0, abs=1e-6)
    [along] = law.forecast(best)
    low, high = along.intervals[0.95]
    assert low < loss_by_known_law(best)[0] < high
    assert not any("tokens per parameter" in note for note in along.notes)
    other = law.points(math.exp(best.n[0]) * 5, math.exp(best.d[0]) * 5)
    [off] = law.forecast(other)
    assert any(f"all have one {fixed}" in note for note in off.notes)


def test_two_levels_of_d_are_enough_for_one_exponent() -> None:
    n, d = np.meshgrid([7e7, 1.6e8, 4.1e8, 1e9, 3e9], [1e10, 3e11])
    law = fit_scaling_law(made(Points.of(n.ravel(), d.ravel())))
    assert law.committee.best.law.name == "tied" and "2 different values of D" in law.skipped["hoffmann"]


def test_repeated_data_are_discounted_where_no_run_repeats_and_said() -> None:
    law = fit_scaling_law(made(grid(), noise=0.002))
    fresh, again = (law.points(3e9, 6e10, unique) for unique in (None, 3e9))
    worth = math.exp(as_new_tokens(again).d[0])
    assert 3e9 < worth < 6e10
    assert law.log_loss(again)[0] == pytest.approx(law.log_loss(law.points(3e9, worth))[0])
    assert law.half_widths(again, 0.8)[0] > law.half_widths(fresh, 0.8)[0]
    [forecast] = law.forecast(again)
    assert any(note.startswith("20 epochs, and no run repeats data: counted as") for note in forecast.notes)
    assert not any("epochs" in note for note in law.forecast(fresh)[0].notes)


def test_views_keep_the_top_and_the_frontier() -> None:
    runs = published("porian_tuned")
    assert View(math.inf, math.inf).weights(runs).all()
    kept = View(1.0, 0.05).weights(runs) > 0
    assert 0 < kept.sum() < len(runs)
    assert runs.points.c[kept].min() >= runs.points.c.max() - math.log(10) - 1e-6
    assert np.exp(excess_over_frontier(runs)[kept]).max() <= 1.05
    assert (excess_over_frontier(runs) >= 0).all()


@pytest.mark.parametrize(
    ("points", "losses", "reason"),
    [
        (Points.of([1e6, 1e7, 1e8], [1e8, 1e9, 1e10]), [5, 4, 3], "3 runs are too few for a law"),
        (Points.of(np.full(6, 1e7), np.full(6, 1e9)), np.linspace(5, 4, 6), "no spread in C: its largest"),
        (
            Points.of([1e7, 3e7] * 3, [1e9, 3e9] * 3),
            [5, 5, 5, 4, 4, 4],
            "too few rungs to identify any law (compute: 2",
        ),
        (grid(), np.linspace(3, 5, 48), "the loss does not fall as compute grows"),
        (grid(), np.array([*np.linspace(5, 3, 47), np.nan]), "1 runs whose loss is not a finite number above 0"),
        (grid(), np.full(48, 3.0), "the loss does not fall as compute grows"),
    ],
)
def test_unidentifiable_runs_are_refused_with_the_reason(points: Points, losses, reason: str) -> None:
    order = np.argsort(points.c, kind="stable")
    with pytest.raises(InputError, match=r"^table: ") as caught:
        fit_scaling_law(RunTable.of(points.take(order), losses))
    assert reason in str(caught.value)


def test_five_runs_are_forecast_with_wide_intervals_and_a_word_where_nothing_could_be_backtested() -> None:
    n = np.geomspace(1e6, 1e8, 5)
    law = fit_scaling_law(made(Points.of(n, 20 * n), noise=0.003))
    [forecast] = law.forecast(law.points(3e8, 6e9))
    low, high = forecast.intervals[0.95]
    assert low < loss_by_known_law(law.points(3e8, 6e9))[0] < high
    blind = dataclasses.replace(law, calibration=dataclasses.replace(law.calibration, origins=0))
    [forecast] = blind.forecast(law.points(3e8, 6e9))
    assert any("too few runs to backtest" in note for note in forecast.notes)
