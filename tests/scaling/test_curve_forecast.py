"""Forecasts of whole curves: they end at the final loss, their bands hold, the live run is held against them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.config import Schedule
from tenfold.core.errors import InputError
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates, trace
from tenfold.scaling.curve_forecast import Band, BandTracker, CurveForecast, FinalLoss, backtest, forecast_curve
from tenfold.scaling.curve_law import fit_law
from tests.scaling.curves import (
    CONSTANT,
    COSINE,
    LINEAR,
    TRUE,
    WSD,
    final_loss,
    ladder,
    made,
)

GROWING = replace(TRUE, amplitude_trend=0.15, drop_trend=-0.1)


def test_a_ladder_forecasts_a_larger_curve_of_another_schedule() -> None:
    sizes = (1, 1.5, 2.2, 3.3, 5)
    rungs = [*ladder(sizes, GROWING, CONSTANT), *ladder(sizes, GROWING, WSD)]
    [target] = ladder((10,), GROWING, COSINE)
    forecast = forecast_curve(rungs, target.run, final_loss(float(target.losses[-1])))
    errors = np.interp(target.steps, forecast.steps, forecast.losses) - target.losses
    assert np.abs(errors).mean() < 5e-3
    low, high = (np.interp(target.steps, forecast.steps, edge) for edge in _edges(forecast.band(0.95)))
    assert ((low <= target.losses) & (target.losses <= high)).mean() > 0.9
    assert "collapse" not in forecast.errors


def _edges(band: Band) -> tuple[np.ndarray, np.ndarray]:
    return band.low, band.high


def test_a_forecast_ends_at_the_final_loss_with_its_intervals_and_bands_are_nested() -> None:
    rungs = ladder((1, 1.6, 2.5, 4), TRUE, WSD)
    final = FinalLoss(2.6, {0.95: (2.5, 2.8), 0.5: (2.58, 2.64), 0.8: (2.55, 2.7)})
    forecast = forecast_curve(rungs, CurveRun(schedule_rates(WSD, 9000), 6.0), final)
    assert forecast.losses[-1] == pytest.approx(2.6, abs=1e-9)
    assert [band.level for band in forecast.bands] == [0.5, 0.8, 0.95]
    for band in forecast.bands:
        assert (band.low[-1], band.high[-1]) == pytest.approx(final.intervals[band.level], abs=1e-6)
        assert (band.low < forecast.losses).all()
        assert (forecast.losses < band.high).all()
    for inner, outer in zip(forecast.bands, forecast.bands[1:], strict=False):
        assert (outer.low <= inner.low).all()
        assert (inner.high <= outer.high).all()
    assert forecast.steps[0] == 450
    assert forecast.steps[-1] == 9000


def test_averaging_keeps_the_curve_and_takes_the_scatter_of_batches() -> None:
    run = CurveRun(schedule_rates(COSINE, 6000))
    steps = np.arange(1, 6001)
    clean = 2.0 + 3.0 * steps**-0.4
    noisy = Curve(run, steps, clean * np.exp(0.02 * np.random.default_rng(0).standard_normal(6000)))
    averaged = noisy.after_warmup().averaged(128)
    assert 64 < len(averaged.steps) <= 128
    late = averaged.steps > 1000
    errors = np.log(averaged.losses / (2.0 + 3.0 * averaged.steps**-0.4))
    assert np.sqrt(np.mean(errors[late] ** 2)) < 0.02 / 4
    assert replace(noisy, losses=clean).averaged(6000).losses is clean


def test_a_forecast_from_the_losses_of_single_batches() -> None:
    """Every step logged with a scatter of 1.5%; the clean curve of the target lies within half a percent."""
    rungs = []
    for number, curve in enumerate(ladder((1, 1.6, 2.5, 4), TRUE, WSD, noise=0.0)):
        steps = np.arange(1, curve.run.steps + 1)
        clean = np.interp(steps, curve.steps, curve.losses)
        scatter = np.random.default_rng(number).standard_normal(len(steps))
        rungs.append(Curve(curve.run, steps, clean * np.exp(0.015 * scatter)))
    [target] = ladder((8,), TRUE, WSD, noise=0.0)
    forecast = forecast_curve(rungs, target.run, final_loss(float(target.losses[-1])))
    errors = np.interp(target.steps, forecast.steps, forecast.losses) / target.losses - 1
    assert np.abs(errors).mean() < 5e-3


def test_the_form_with_the_smallest_backtest_error_is_chosen() -> None:
    """Curves made by collapse alone, with a kink that no power law has."""
    rungs = []
    for size in (1.0, 1.6, 2.5, 4.0):
        run = CurveRun(schedule_rates(LINEAR, int(2000 * size)), size)
        steps = np.unique(np.linspace(run.warmup_steps, run.steps, 120).astype(np.int64))
        share = steps / run.steps
        bump = 1 + 0.4 * (1 - share) + 0.15 * np.exp(-(((share - 0.5) / 0.05) ** 2))
        rungs.append(Curve(run, steps, 2.0 + 0.8 * size**-0.3 * bump))
    forecast = forecast_curve(rungs, CurveRun(schedule_rates(LINEAR, 20000), 10.0), final_loss(2.4))
    assert forecast.method == "collapse"
    assert forecast.errors["collapse"] == min(forecast.errors.values())


def test_bands_are_wider_where_the_backtests_erred_more_and_farther_from_the_rungs() -> None:
    rungs = ladder((1, 1.6, 2.5, 4), TRUE, WSD)
    noisy = ladder((1, 1.6, 2.5, 4), TRUE, WSD, noise=5e-3)

    def width(curves: list[Curve], size: float) -> float:
        forecast = forecast_curve(curves, CurveRun(schedule_rates(WSD, 9000), size), final_loss(2.7, noise=1e-5))
        return float(np.mean(forecast.band(0.8).high - forecast.band(0.8).low))

    assert width(noisy, 6.0) > 3 * width(rungs, 6.0)
    assert width(noisy, 60.0) > 2 * width(noisy, 6.0)


def test_each_split_of_the_sizes_is_backtested() -> None:
    rungs = ladder((1, 1.6, 2.5, 4), TRUE, WSD)
    trials = backtest(rungs, CurveRun(schedule_rates(COSINE, 9000), 10.0))
    first = trials[0].form
    assert [(t.fitted_to, t.predicted) for t in trials if t.form == first] == [(1.6, 2.5), (1.6, 4), (2.5, 4)]


def test_short_cool_downs_beside_constant_trunks_forecast_a_whole_run() -> None:
    rungs = []
    for size in (1.0, 1.6, 2.5, 4.0):
        floor, steps = 2.5 + 0.6 * size**-0.4, int(1500 * size)
        rungs.append(made(schedule_rates(CONSTANT, steps), size=size, floor=floor))
        for decay in (0.01, 0.2):
            cooled = made(schedule_rates(Schedule(kind="wsd", warmup=0.05, decay=decay), steps), size=size, floor=floor)
            at = np.arange(steps - int(decay * steps), steps + 1, max(1, int(decay * steps) // 8))
            path = trace(cooled.run, 1.0, 5000.0, merged=0)
            losses = floor + TRUE.above_floor(path, path.sums[at - 1], float(np.log(size)))
            rungs.append(Curve(cooled.run, at, losses))
    [target] = ladder((10,), TRUE, WSD, noise=0.0)
    forecast = forecast_curve(rungs, target.run, final_loss(float(target.losses[-1])))
    errors = np.interp(target.steps, forecast.steps, forecast.losses) - target.losses
    assert np.abs(errors).mean() < 2e-3
    assert np.isfinite(list(forecast.errors.values())).all()


def test_a_forecast_survives_the_ledger() -> None:
    rungs = ladder((1, 1.6, 2.5), TRUE, WSD)
    forecast = forecast_curve(rungs, CurveRun(schedule_rates(WSD, 5000), 4.0), final_loss(2.7))
    back = CurveForecast.from_record(json.loads(json.dumps(forecast.record())))
    assert back.record() == forecast.record()
    assert back.interval(3000, 0.8) == forecast.interval(3000, 0.8)


@pytest.mark.slow
def test_coverage_is_near_nominal_over_many_ladders() -> None:
    """Trends and floors drawn at random; the shape the forecast uses is never the true one exactly."""
    generator, inside = np.random.default_rng(0), []
    for _ in range(12):
        shape = replace(TRUE, amplitude_trend=generator.normal(0, 0.2), exponent=generator.uniform(0.35, 0.6))
        sizes = (1.0, 1.4, 2.0, 2.8, 4.0, 8.0)
        *rungs, target = ladder(sizes, shape, WSD, noise=1e-3)
        clean = ladder(sizes[-1:], shape, WSD, noise=0.0)[0]
        forecast = forecast_curve(rungs, target.run, final_loss(float(clean.losses[-1])))
        low, high = (np.interp(target.steps, forecast.steps, edge) for edge in _edges(forecast.band(0.8)))
        inside.append(np.mean((low <= target.losses) & (target.losses <= high)))
    assert 0.65 < np.mean(inside) <= 1.0


def flat(level: float = 0.95) -> CurveForecast:
    steps = np.array([10, 100])
    return CurveForecast(
        steps, np.array([3.0, 2.0]), (Band(level, np.array([2.9, 1.9]), np.array([3.1, 2.1])),), "law", {}
    )


def test_the_tracker_raises_one_event_when_the_band_is_left_for_k_evaluations() -> None:
    tracker = BandTracker(flat(), patience=2)
    seen = [
        (5, 9.0),
        (10, 3.0),
        (40, 3.5),
        (55, 2.5),
        (60, 3.5),
        (70, 3.5),
        (80, 3.5),
        (90, 2.1),
        (95, 0.1),
        (100, 0.1),
    ]
    events = [event for step, loss in seen if (event := tracker.observe(step, loss))]
    assert [(event.step, event.side, event.count) for event in events] == [(70, "above", 2), (100, "below", 2)]
    assert str(events[0]).startswith("step 70: loss 3.5000 is above the 95% band [2.2333, 2.4333] for 2 evaluations")
    assert str(tracker) == "below the 95% band for 2 evaluations"


def test_the_tracker_keeps_quiet_during_warm_up_and_takes_nan_for_above() -> None:
    tracker = BandTracker(flat(), patience=1)
    assert tracker.observe(9, 99.0) is None
    assert str(tracker) == "warming up"
    event = tracker.observe(20, float("nan"))
    assert event is not None
    assert event.side == "above"


@given(shifts=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=40), patience=st.integers(1, 5))
def test_the_tracker_counts_runs_of_one_side(shifts: list[float], patience: int) -> None:
    forecast = flat()
    sides = ["inside" if abs(s) <= 0.1 else "above" if s > 0 else "below" for s in shifts if abs(abs(s) - 0.1) > 1e-9]
    steps = list(range(10, 10 + len(shifts)))
    kept = [shift for shift in shifts if abs(abs(shift) - 0.1) > 1e-9]
    tracker = BandTracker(forecast, patience=patience)
    seen = [tracker.observe(step, forecast.at(step) + shift) for step, shift in zip(steps, kept, strict=False)]
    events = [event for event in seen if event]
    expected, count, last = 0, 0, ""
    for side in sides:
        count = count + 1 if side == last else 1
        last = side
        expected += side != "inside" and count == patience
    assert len(events) == expected


GOOD = made(schedule_rates(WSD, 400))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: fit_law([]), "no loss curve"),
        (lambda: fit_law([replace(GOOD, losses=GOOD.losses[::-1])]), "does not fall"),
        (lambda: fit_law([Curve(GOOD.run, [1, 2, 3, 400], [5, 4, 3, 2])]), "after its warm-up"),
        (lambda: Curve(GOOD.run, [10, 20], [3.0, float("nan")]), "diverged"),
        (lambda: Curve(GOOD.run, [20, 10], [3.0, 2.0]), "must increase"),
        (lambda: Curve(GOOD.run, [10, 401], [3.0, 2.0]), r"1 … 400"),
        (lambda: Curve(GOOD.run, [10], [3.0, 2.0]), "as many losses"),
        (lambda: CurveRun([0.0, 0.0]), "learning rates"),
        (lambda: CurveRun([1.0], parameters=0), "above 0"),
        (lambda: FinalLoss(2.0, {}), "interval"),
        (lambda: FinalLoss(2.0, {0.8: (2.1, 2.2)}), "must contain"),
        (lambda: fit_law([GOOD]).losses(CurveRun(GOOD.run.learning_rates, 2.0), [100]), "no floor for 2 parameters"),
        (lambda: fit_law([GOOD]).losses(GOOD.run, [401]), r"1 … 400"),
        (
            lambda: fit_law([made(schedule_rates(CONSTANT, 400))]).losses(GOOD.run, [100]),
            "no curve of the fit anneals",
        ),
        (
            lambda: forecast_curve(ladder((1, 2), TRUE, WSD), GOOD.run, final_loss(2.6)),
            "rungs of 2 sizes; a curve forecast needs 3",
        ),
        (lambda: flat().band(0.5), "no band at level 0.5: there are 0.95"),
        (lambda: BandTracker(flat(), patience=0), "patience"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(wrong, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
