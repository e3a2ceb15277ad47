"""Loss curves by step: the law is recovered, obeys its symmetries, forecasts unseen schedules and larger sizes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config import Schedule
from tenfold.core.errors import InputError
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates, trace
from tenfold.scaling.curve_forecast import Band, BandTracker, CurveForecast, FinalLoss, backtest, forecast_curve
from tenfold.scaling.curve_law import CurveShape, fit_law
from tenfold.train.schedule import learning_rate_factor

EXCERPT = Path(__file__).parent / "data" / "multipower_100m.csv"
TRUE = CurveShape(amplitude=0.25, exponent=0.45, drop=0.16, speed=400.0, drop_exponent=0.5, rate_exponent=0.6)
CONSTANT = Schedule(kind="wsd", warmup=0.05, decay=0.0)
WSD = Schedule(kind="wsd", warmup=0.05, decay=0.3)
COSINE = Schedule(kind="cosine", warmup=0.05, final=0.1)
LINEAR = Schedule(kind="linear", warmup=0.05)
LEVELS = (0.5, 0.8, 0.95)


def two_stage(steps: int) -> np.ndarray:
    """Constant, then 0.3 of it from two thirds on."""
    rates = schedule_rates(CONSTANT, steps)
    rates[2 * steps // 3 :] *= 0.3
    return rates


def made(
    rates: np.ndarray,
    *,
    size: float = 1.0,
    floor: float = 2.8,
    shape: CurveShape = TRUE,
    noise: float = 0.0,
    seed: int = 0,
) -> Curve:
    """A curve that follows the law, with reference rate 1 and reference sum 5000; every step's drop counted exactly."""
    run = CurveRun(rates, size)
    path = trace(run, 1.0, 5000.0, merged=0)
    steps = np.unique(np.linspace(run.warmup_steps, run.steps, 90).astype(np.int64))
    losses = floor + shape.above_floor(path, path.sums[steps - 1], float(np.log(size)))
    return Curve(run, steps, losses * np.exp(noise * np.random.default_rng(seed).standard_normal(len(steps))))


def three_schedules(noise: float = 0.0) -> list[Curve]:
    rates = schedule_rates(CONSTANT, 6000), two_stage(4000), schedule_rates(COSINE, 5000)
    return [made(each, noise=noise, seed=seed) for seed, each in enumerate(rates)]


def test_the_law_is_recovered_from_its_own_curves_and_predicts_other_schedules() -> None:
    law = fit_law(three_schedules(noise=2e-4))
    for schedule, steps in ((WSD, 9000), (LINEAR, 6000), (COSINE, 12000)):
        unseen = made(schedule_rates(schedule, steps))
        assert np.abs(law.losses(unseen.run, unseen.steps) - unseen.losses).mean() < 2e-3
    assert law.shape.exponent == pytest.approx(TRUE.exponent, abs=0.03)
    assert law.floors[1.0] == pytest.approx(2.8, abs=0.02)
    assert law.residual < 4e-4


def test_merged_drops_reproduce_the_sum_over_every_step() -> None:
    for rates in (schedule_rates(COSINE, 20000), schedule_rates(WSD, 20000), schedule_rates(LINEAR, 20000)):
        exact, merged = trace(CurveRun(rates), 1.0, 5000.0, merged=0), trace(CurveRun(rates), 1.0, 5000.0)
        assert len(merged.drops) <= 200 < len(exact.drops)
        sums = exact.sums[1500::700]
        assert np.abs(TRUE.above_floor(exact, sums, 0.0) - TRUE.above_floor(merged, sums, 0.0)).max() < 4e-4


def test_the_derivatives_are_those_of_the_law() -> None:
    path = trace(CurveRun(two_stage(3000)), 1.0, 5000.0)
    vector = np.array([np.log(0.25), np.log(0.45), np.log(0.16), np.log(40.0), np.log(0.5), 0.6, 0.1, -0.2])
    sums, size = path.sums[500::250], 1.3
    _, gradient = CurveShape.from_logs(vector).gradient(path, sums, size)
    for index in range(len(vector)):
        step = np.zeros(len(vector))
        step[index] = 1e-6
        up, down = (CurveShape.from_logs(v).above_floor(path, sums, size) for v in (vector + step, vector - step))
        np.testing.assert_allclose(gradient[:, index], (up - down) / 2e-6, rtol=1e-5, atol=1e-8)


def test_a_fit_is_deterministic_and_does_not_depend_on_the_order_of_curves() -> None:
    curves = three_schedules(noise=1e-3)
    assert fit_law(curves) == fit_law(curves)
    other = fit_law(curves[::-1])
    unseen = made(schedule_rates(WSD, 8000))
    np.testing.assert_allclose(
        other.losses(unseen.run, unseen.steps), fit_law(curves).losses(unseen.run, unseen.steps), atol=1e-5
    )


def test_outliers_hardly_move_the_fit() -> None:
    curves = three_schedules(noise=2e-4)
    losses = curves[0].losses.copy()
    losses[40:44] += 1.5
    spiked = [replace(curves[0], losses=losses), *curves[1:]]
    unseen = made(schedule_rates(WSD, 9000))
    assert np.abs(fit_law(spiked).losses(unseen.run, unseen.steps) - unseen.losses).mean() < 5e-3


@settings(max_examples=12, deadline=None)
@given(
    loss_unit=st.floats(0.1, 10),
    rate_unit=st.floats(1e-5, 10),
    tokens=st.floats(1, 1e7),
)
def test_units_of_loss_rate_and_tokens_do_not_matter(loss_unit: float, rate_unit: float, tokens: float) -> None:
    def changed(run: CurveRun) -> CurveRun:
        return CurveRun(run.learning_rates * rate_unit, run.parameters, tokens)

    curves, unseen = three_schedules(), made(schedule_rates(LINEAR, 5000))
    expected = fit_law(curves).losses(unseen.run, unseen.steps)
    law = fit_law([Curve(changed(curve.run), curve.steps, curve.losses * loss_unit) for curve in curves])
    np.testing.assert_allclose(law.losses(changed(unseen.run), unseen.steps) / loss_unit, expected, rtol=2e-4)


shapes = st.builds(
    CurveShape,
    amplitude=st.floats(0.05, 1),
    exponent=st.floats(0.1, 1),
    drop=st.floats(0.01, 0.5),
    speed=st.floats(1, 1e4),
    drop_exponent=st.floats(0.1, 1.5),
    rate_exponent=st.floats(0, 1.2),
)


@given(shape=shapes, steps=st.integers(200, 3000))
def test_at_constant_rate_the_loss_falls_with_every_step(shape: CurveShape, steps: int) -> None:
    path = trace(CurveRun(schedule_rates(CONSTANT, steps)), 1.0, 1000.0)
    assert not len(path.drops)
    assert (np.diff(shape.above_floor(path, path.sums[50:], 0.0)) < 0).all()


@given(shape=shapes, kind=st.sampled_from(["wsd", "cosine", "linear"]), final=st.floats(0, 0.9))
def test_annealing_lowers_the_loss_at_equal_sums(shape: CurveShape, kind: str, final: float) -> None:
    schedule = Schedule.model_validate({"kind": kind, "warmup": 0.1, "decay": 0.4, "final": final})
    path = trace(CurveRun(schedule_rates(schedule, 1000)), 1.0, 1000.0)
    constant = trace(CurveRun(schedule_rates(CONSTANT, 1000)), 1.0, 1000.0)
    sums = path.sums[100:]
    taken = shape.above_floor(constant, sums, 0.0) - shape.above_floor(path, sums, 0.0)
    assert (taken >= 0).all()
    assert taken[-1] > 0


@pytest.mark.parametrize("schedule", [WSD, COSINE, LINEAR])
def test_the_rates_are_the_trainers(schedule: Schedule) -> None:
    rates = schedule_rates(schedule, 500, peak=3e-4)
    assert rates.tolist() == [3e-4 * learning_rate_factor(schedule, step, 500) for step in range(500)]
    assert CurveRun(rates).warmup_steps == 25


def published() -> dict[str, Curve]:
    """The four curves of the excerpt."""
    with EXCERPT.open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return {name: _published([row for row in rows if row["curve"] == name]) for name in {row["curve"] for row in rows}}


def _published(rows: list[dict[str, str]]) -> Curve:
    steps, rates, losses = (np.array([float(row[key]) for row in rows]) for key in ("step", "lr", "loss"))
    every = np.arange(1, int(steps[-1]) + 1)
    filled = np.interp(every, steps, rates)
    for at in np.flatnonzero(np.abs(np.diff(np.log(rates))) > 0.5):
        filled[int(steps[at]) - 1 : int(steps[at + 1]) - 1] = rates[at]
    filled[:2160] = 3e-4 * every[:2160] / 2160
    return Curve(CurveRun(filled), steps.astype(np.int64), losses)


def test_two_published_schedules_forecast_two_unseen_ones() -> None:
    curves = published()
    law = fit_law([curves["constant_24000"], curves["wsdcon_9"]])
    for name in ("cosine_24000", "wsdld_20000_24000"):
        curve = curves[name]
        errors = law.losses(curve.run, curve.steps) - curve.losses
        assert np.abs(errors).mean() < 4e-3
        assert 1 - np.sum(errors**2) / np.sum((curve.losses - curve.losses.mean()) ** 2) > 0.998


def ladder(sizes: tuple[float, ...], shape: CurveShape, schedule: Schedule, noise: float = 3e-4) -> list[Curve]:
    """One curve per size, trained for steps in proportion to it."""
    return [
        made(
            schedule_rates(schedule, int(1500 * size)),
            size=size,
            floor=2.5 + 0.6 * size**-0.4,
            shape=shape,
            noise=noise,
            seed=int(1000 * size),
        )
        for size in sizes
    ]


def final_loss(value: float, noise: float = 1e-3) -> FinalLoss:
    return FinalLoss(
        value,
        {level: (value - z * noise, value + z * noise) for level, z in zip(LEVELS, (0.67, 1.28, 1.96), strict=True)},
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
