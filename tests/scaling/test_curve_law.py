"""Loss curves by step: the law is recovered, obeys its symmetries, forecasts unseen schedules."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config import Schedule
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates, trace
from tenfold.scaling.curve_law import CurveShape, fit_law
from tenfold.train.schedule import learning_rate_factor
from tests.scaling.curves import (
    CONSTANT,
    COSINE,
    LINEAR,
    TRUE,
    WSD,
    made,
    three_schedules,
    two_stage,
)

EXCERPT = Path(__file__).parent / "data" / "multipower_100m.csv"


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
