"""The hierarchical fit and what is held out of it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.calibration.arrays import measured_runs
from tenfold.planner.calibration.calibrated import (
    calibrate,
    half_width,
    held_out,
    read_calibration,
    shipped_calibration,
    unseen_widths,
    write_calibration,
)
from tenfold.planner.calibration.fit import fit_constants, settled
from tenfold.planner.calibration.priors import prior_means
from tenfold.planner.cost.device import CONSTANT_NAMES
from tests.planner.calibration.runs import made_up, timed


def slower(name: str, by: float) -> np.ndarray:
    """The prior means with one constant `by` times as large."""
    moved = prior_means()
    moved[CONSTANT_NAMES.index(name)] += np.log(by)
    return moved


def test_fit_recovers_step_times_of_two_frameworks_that_differ() -> None:
    known = timed(made_up(), {"one": slower("launch", 2.5), "two": slower("matmul_efficiency", 0.85)}, noise=0.01)
    calibration = fit_constants(known.model, known.seconds, known.levels, known.weights)
    error = known.model(calibration.constants(known.levels)) / known.seconds - 1
    assert np.abs(error).mean() < 0.015
    deviates = calibration.deviations["framework"]
    assert deviates["one"][CONSTANT_NAMES.index("launch")] > deviates["two"][CONSTANT_NAMES.index("launch")] + 0.2


def test_an_unseen_label_takes_the_means() -> None:
    known = timed(made_up(), {"one": slower("slowness", 1.2), "two": slower("slowness", 1.2)})
    calibration = fit_constants(known.model, known.seconds, known.levels, known.weights)
    assert np.array_equal(calibration.one(framework="three"), calibration.mean)


def test_a_wild_row_hardly_moves_the_fit() -> None:
    truth = {"one": slower("launch", 1.5), "two": slower("launch", 1.5)}
    clean = timed(made_up(), truth)
    wild = measured_runs(
        [replace(run, step_seconds=(run.step_seconds or 0) * (30 if n == 5 else 1)) for n, run in enumerate(clean.runs)]
    )
    calibration = fit_constants(wild.model, wild.seconds, wild.levels, wild.weights)
    error = np.abs(wild.model(calibration.constants(wild.levels)) / clean.seconds - 1)
    assert np.median(error) < 0.02


def test_what_was_measured_of_held_out_runs_cannot_reach_their_forecast() -> None:
    known = timed(made_up(widths=(1024, 2048)), {"one": slower("launch", 2), "two": slower("head", 2)}, noise=0.05)
    forecast = held_out(known, [run.shape_key for run in known.runs]).seconds
    told_otherwise = measured_runs(
        [
            replace(run, step_seconds=(run.step_seconds or 0) * (3 if run.shape.width == 2048 else 1))
            for run in known.runs
        ]
    )
    again = held_out(told_otherwise, [run.shape_key for run in known.runs]).seconds
    wide = np.array([run.shape.width == 2048 for run in known.runs])
    assert np.array_equal(forecast[wide], again[wide])
    assert not np.allclose(forecast[~wide], again[~wide], rtol=0.01)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.01, 1.0))
def test_nine_of_ten_new_residuals_lie_inside_the_width(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    width = half_width(random.standard_t(4, 500) * spread, [str(number) for number in range(500)])
    assert 0.82 < np.mean(np.abs(random.standard_t(4, 4000) * spread) <= width) < 0.97


def test_widths_come_from_other_keys_each_of_which_weighs_the_same() -> None:
    residuals = np.concatenate([np.full(20, 1.6), np.full(2000, 0.1), np.full(2, 0.5)])
    keys = ["everybody gets it wrong"] * 20 + ["swept"] * 2000 + ["small"] * 2
    widths = unseen_widths(residuals, ["one family"] * len(keys), keys)
    assert widths[0] == 0.5 and widths[100] == 1.6 and widths[-1] == 1.6


def test_shipped_calibration_is_physical_and_survives_a_round_trip(tmp_path) -> None:  # type: ignore[no-untyped-def]
    calibrated = shipped_calibration()
    for framework in ["", *calibrated.frameworks()]:
        constants = calibrated.constants(framework)
        for name in ("matmul_efficiency", "memory_efficiency", "attention_efficiency"):
            assert 0 < getattr(constants, name) < 1.05, (framework, name)
        assert 0 < calibrated.half_width(framework, 1000) < 3
    write_calibration(calibrated, tmp_path / "again.json")
    again = read_calibration(tmp_path / "again.json")
    assert np.array_equal(again.time.mean, calibrated.time.mean) and again.memory == calibrated.memory
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a calibration"):
        read_calibration(tmp_path / "bad.json")


def test_intervals_widen_beyond_what_was_measured() -> None:
    calibrated = shipped_calibration()
    small, large = calibrated.half_width("nanotron", 100), calibrated.half_width("nanotron", 1_000_000)
    assert large > small


def test_a_row_of_many_readings_counts_as_much_as_the_likeliest_is_likely() -> None:
    sure = made_up()[0]
    likely = ((sure.layout, 0.6), (replace(sure.layout, recomputation=2.0), 0.4))
    blank, said = settled([replace(sure, readings=likely, step_seconds=1.0), replace(sure, step_seconds=1.0)])
    assert blank.layout == sure.layout and 0.5 < blank.certainty < 0.7 and said.certainty == 1.0
    known = measured_runs([blank, said])
    assert known.weights[0] == pytest.approx(blank.certainty * known.weights[1])


def test_a_table_with_rows_of_many_readings_is_calibrated_whole() -> None:
    known = timed(made_up(widths=(1024, 2048)), {"one": slower("launch", 1.3), "two": slower("head", 1.3)}, noise=0.02)
    first = known.runs[0]
    blank = replace(first, readings=((first.layout, 0.9), (replace(first.layout, recomputation=2.0), 0.1)))
    done: list[tuple[int, int]] = []
    calibrated = calibrate([blank, *known.runs[1:]], lambda now, of: done.append((now, of)))
    assert done[-1][0] == done[-1][1] == len(done)
    assert calibrated.frameworks() == ["one", "two"] and 0 < calibrated.half_width("one", 64) < 0.2
    assert calibrated.strangers["framework"] >= 1
