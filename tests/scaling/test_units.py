"""The units of a table do not matter: N in millions, D in billions, FLOP in PFLOP/s-days, loss in bits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.scaling.laws import HELD_HOFFMANN, LAWS
from tenfold.scaling.predict import ScalingLaw, compute_optimal, fit_scaling_law
from tenfold.scaling.table import Points, RunTable
from tests.scaling.runs import published

FACTORS = st.floats(-20.0, 20.0)
SAME = 1e-8  # of a logarithm: more digits than are ever shown


def in_units(runs: RunTable, n: float, d: float, c: float, loss: float) -> RunTable:
    """The same table in units e^n, e^d, e^c and e^loss times smaller."""
    points = runs.points
    moved = Points.of(np.exp(points.n + n), np.exp(points.d + d), np.exp(points.c + c), np.exp(points.u + d))
    return RunTable.of(moved, np.exp(runs.log_loss + loss), run=runs.run.tolist())


def asked(law: ScalingLaw, n: float = 0.0, d: float = 0.0, c: float = 0.0, loss: float = 0.0) -> np.ndarray:
    """Logarithms of forecasts, widths and the best split, counted in the first table's units."""
    factor = law.runs.flops_factor
    parameters, tokens = np.array([1e9, 1e10]) * np.exp(n), np.array([2e10, 1e11]) * np.exp(d)
    points = Points.of(parameters, tokens, factor * parameters * tokens, tokens / 3)
    best = compute_optimal(law, float(np.exp(law.runs.points.c.max() + np.log(10.0))))
    widths = [law.half_widths(points, 0.8), law.half_widths(best, 0.95)]
    return np.concatenate([law.log_loss(points) - loss, *widths, best.n - n, best.d - d, best.c - c])


@pytest.mark.parametrize("name", ["gadre_c4", "datablations"])
def test_forecast_intervals_and_best_split_have_the_same_digits_in_any_units(name: str) -> None:
    runs = published(name)
    first = asked(fit_scaling_law(runs, replicates=30))
    moves = np.random.default_rng(len(name)).uniform(-15, 15, 4)
    again = asked(fit_scaling_law(in_units(runs, *moves), replicates=30), *moves)
    assert np.abs(first - again).max() < SAME


@settings(max_examples=5, deadline=None)
@given(n=FACTORS, d=FACTORS, c=FACTORS, loss=st.floats(-5.0, 5.0), law=st.sampled_from([*LAWS, HELD_HOFFMANN]))
def test_every_law_is_fitted_alike_in_any_units(n: float, d: float, c: float, loss: float, law) -> None:
    runs = published("datablations" if law.name == "data-constrained" else "porian_tuned")
    other = in_units(runs, n, d, c, loss)
    ones = np.ones((2, len(runs)))
    ones[1, ::3] = 0
    first = law.log_loss(law.fit(runs, ones), runs.points)
    again = law.log_loss(law.fit(other, ones), other.points)
    assert np.abs(again - loss - first).max() < SAME
