"""The fit finds what made the times, never less than nothing, and more work never costs less."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.experiments.local.operations import CACHED, MAPPED, Operation, Place, fit_costs

HERE = Place("forward", "MLP")
SIDE = st.integers(1, 4096)


def product(g: int, m: int, n: int, k: int) -> Operation:
    return Operation("mm nt", (g, m, n, k), HERE)


def test_the_fit_gives_back_the_law_that_made_the_times() -> None:
    draw = np.random.default_rng(0)
    rows = []
    for g, m, n, k in draw.integers(8, 800, (60, 4)).tolist():
        rows.append((product(g, m, n, k), 5e-6 + 1e-11 * g * m * n * k + 2e-10 * g * m * n))
    costs = fit_costs(rows)
    assert costs.seconds(product(2, 1000, 1500, 700)) == pytest.approx(5e-6 + 1e-11 * 2.1e9 + 2e-10 * 3e6, rel=0.02)
    assert costs.starting(product(1, 1, 1, 1)) == pytest.approx(5e-6, rel=0.5)


def test_pages_never_touched_cost_extra_where_a_result_is_new() -> None:
    def seconds(elements: int, fresh: bool) -> float:
        return 1e-6 + elements * (2e-10 + 1e-9 * (fresh and elements >= MAPPED))

    sizes = [2**e for e in range(10, 25)]
    new = [(Operation("mul 2", (e, 1), HERE), seconds(e, True)) for e in sizes]
    old = [(Operation("mul_ 2", (e, 1), HERE), seconds(e, False)) for e in sizes]
    costs = fit_costs(new + old)
    assert costs.fresh == pytest.approx(1e-9, rel=0.1)
    assert costs.seconds(Operation("mul_ 2", (MAPPED, 1), HERE)) < 0.3 * costs.seconds(
        Operation("mul 2", (MAPPED, 1), HERE)
    )


def test_a_kind_never_seen_costs_what_its_group_does() -> None:
    rows = [(Operation("add 2", (e, 1), HERE), 1e-6 + e * 1e-10) for e in (100, 10_000, CACHED, 4 * CACHED)]
    found = fit_costs(rows).seconds(Operation("erfinv 1", (CACHED, 1), HERE))
    assert found == pytest.approx(1e-6 + CACHED * 1e-10, rel=0.05)


@given(st.lists(st.tuples(SIDE, SIDE, SIDE, st.floats(1e-6, 1.0)), min_size=3, max_size=20), SIDE, SIDE, SIDE)
def test_more_work_never_costs_less(rows: list[tuple[int, int, int, float]], m: int, n: int, k: int) -> None:
    costs = fit_costs([(product(1, a, b, c), seconds) for a, b, c, seconds in rows])
    small = costs.seconds(product(1, m, n, k))
    assert small >= 0
    assert small <= costs.seconds(product(1, m + 1, n, k)) <= costs.seconds(product(1, m + 1, n + 1, k + 1))
