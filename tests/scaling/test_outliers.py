"""A row whose loss is far off is left out and named; a table without one loses none."""

import dataclasses
import math

import numpy as np
import pytest

from tenfold.scaling.outliers import without_odd_rows
from tenfold.scaling.predict import fit_scaling_law
from tenfold.scaling.table import Points, RunTable
from tests.scaling.runs import grid, made, published


def spoiled(runs: RunTable, at: int, factor: float) -> RunTable:
    """The table with one loss multiplied."""
    losses = runs.log_loss.copy()
    losses[at] += math.log(factor)
    return dataclasses.replace(runs, log_loss=losses).sorted()


def ladder() -> RunTable:
    n, ratio = np.meshgrid([1e7, 3e7, 1e8, 3e8, 1e9], [10, 20, 60])
    return made(Points.of(n.ravel(), (n * ratio).ravel()), noise=0.003)


@pytest.mark.parametrize("factor", [0.1, 0.8, 1.5, 3.0])
@pytest.mark.parametrize("at", [3, 7, 10])
def test_one_wrong_loss_is_named_by_its_row_and_hardly_moves_the_forecast(at: int, factor: float) -> None:
    runs = ladder()
    kept, odd = without_odd_rows(spoiled(runs, at, factor))
    assert [row.line for row in odd] == [runs.line[at]] and len(kept) == len(runs) - 1
    side = "below" if factor < 1 else "above"
    assert str(odd[0]).startswith(f"row {runs.line[at]} left out: its loss") and side in str(odd[0])


def test_a_slipped_digit_is_said_with_the_forecast_which_stays() -> None:
    runs = ladder()
    target = Points.of(1e10, 2e11)
    plain, law = fit_scaling_law(runs, replicates=30), fit_scaling_law(spoiled(runs, 5, 0.1), replicates=30)
    assert law.log_loss(target)[0] == pytest.approx(plain.log_loss(target)[0], abs=0.02)
    [forecast] = law.forecast(target)
    assert any(note.startswith(f"row {runs.line[5]} left out") for note in forecast.notes)


@pytest.mark.parametrize("runs", [ladder(), made(grid(), noise=0.01), published("gadre_c4")])
def test_sound_tables_lose_nothing(runs: RunTable) -> None:
    kept, odd = without_odd_rows(runs)
    assert not odd and kept is runs


def test_where_many_rows_are_far_off_none_is_left_out() -> None:
    runs = ladder()
    wild = dataclasses.replace(runs, log_loss=runs.log_loss + np.where(np.arange(15) % 3 == 1, -0.7, 0.0)).sorted()
    assert not without_odd_rows(wild)[1]
