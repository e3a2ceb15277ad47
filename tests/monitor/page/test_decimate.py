"""Thinning keeps the extremes of every pixel column, whatever the curve and the zoom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.monitor.page.decimate import Steps, Thinned, Values, means, thin

VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


@st.composite
def curves(draw: st.DrawFn) -> tuple[Steps, Values]:
    steps = draw(st.lists(st.integers(0, 3000), unique=True, max_size=400).map(sorted))
    values = draw(st.lists(VALUES, min_size=len(steps), max_size=len(steps)))
    return np.array(steps, dtype=np.int64), np.array(values, dtype=np.float64)


def in_range(steps: Steps, low: int, high: int) -> Values:
    return (steps >= low) & (steps <= high)


@given(curves(), st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 60))
def test_every_extreme_of_every_column_is_kept(curve: tuple[Steps, Values], a: int, b: int, columns: int) -> None:
    steps, values = curve
    low, high = min(a, b), max(a, b)
    kept = thin(steps, values, low, high, columns)
    width = (high - low + 1) / columns
    for column in range(columns):
        of_column = [s for s in range(low, high + 1) if int((s - low) // width) == column] if width < 1 else None
        begin, end = low + column * (high - low + 1) / columns, low + (column + 1) * (high - low + 1) / columns
        here = (steps >= begin) & (steps < end) & in_range(steps, low, high) & np.isfinite(values)
        assert of_column is None or len(of_column) <= 1
        if here.any():
            shown = kept.values[(kept.steps >= begin) & (kept.steps < end)]
            assert shown.min() == values[here].min() and shown.max() == values[here].max()


@given(curves(), st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 60))
def test_what_is_kept_is_of_the_curve_in_order_and_little(
    curve: tuple[Steps, Values], a: int, b: int, columns: int
) -> None:
    steps, values = curve
    kept = thin(steps, values, min(a, b), max(a, b), columns)
    assert (np.diff(kept.steps) > 0).all() and np.isfinite(kept.values).all()
    assert (values[np.searchsorted(steps, kept.steps)] == kept.values).all()
    assert len(kept.steps) <= 2 * columns + 4 and len(kept.not_finite) <= columns


@given(curves(), st.integers(1, 60))
def test_a_column_with_a_value_that_is_not_finite_says_so(curve: tuple[Steps, Values], columns: int) -> None:
    steps, values = curve
    kept = thin(steps, values, 0, 3000, columns)
    broken = steps[~np.isfinite(values)]
    assert set(broken * columns // 3001) == set(kept.not_finite * columns // 3001)
    assert np.isin(kept.not_finite, broken).all()


@given(curves(), st.integers(1, 100))
def test_thinning_what_is_thinned_already_changes_nothing(curve: tuple[Steps, Values], columns: int) -> None:
    steps, values = curve
    once: Thinned = thin(steps, values, 0, 3000, columns)
    twice = thin(once.steps, once.values, 0, 3000, columns)
    assert (once.steps.tolist(), once.values.tolist()) == (twice.steps.tolist(), twice.values.tolist())


@pytest.mark.parametrize("columns", [100, 340, 1280, 3840])
def test_planted_spikes_of_one_step_are_seen_at_every_zoom(columns: int) -> None:
    noise = np.random.default_rng(columns)
    steps, values = np.arange(100_000), 2 + 0.05 * noise.standard_normal(100_000)
    planted = np.sort(noise.choice(100_000, 200, replace=False))
    heights = 1 + noise.random(200)
    values[planted] += heights
    for share in (1, 3, 10, 100, 1000):
        width = 100_000 // share
        for low in range(0, 100_000, width):
            high = min(low + width, 100_000) - 1
            kept = thin(steps, values, low, high, columns)
            inside = planted[(planted >= low) & (planted <= high)]
            column_of = (kept.steps - low) * columns // (high - low + 1)
            for spike in inside:
                shown = kept.values[column_of == (spike - low) * columns // (high - low + 1)]
                assert shown.max() >= values[spike]


def test_means_are_those_of_their_stretch_and_leave_out_what_is_not_finite() -> None:
    steps = np.arange(1, 101)
    values = steps.astype(float)
    values[9] = np.nan
    found = means(steps, values, 1, 100, 10)
    assert found.width == 10 and len(found.steps) == 11
    assert found.values[0] == pytest.approx(np.mean(np.arange(1, 10)))
    assert found.values[1] == pytest.approx(np.mean(np.arange(11, 20)))
