"""What going back loses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.planner.fleet.work import _lost_once


def lost(*stretches: tuple[float, float]) -> list[float]:
    begin, end = np.array(stretches).T
    return [float(value) for value in _lost_once(begin, end)]


def test_no_progress_is_lost_twice() -> None:
    assert lost((1, 3), (4, 5)) == [2, 1]
    assert lost((1, 3), (2, 4)) == [2, 0], "the second came after the point that the first went back to"
    assert lost((1, 3), (0, 6)) == [2, 4], "the second went back further: two of its six were gone"
    assert lost((1, 3), (3 - 1e-9, 6)) == [2, pytest.approx(3)], "it began where the first was found"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_what_is_lost_in_all_is_at_most_what_was_made(stretches: list[tuple[int, int]]) -> None:
    found = lost(*sorted(((min(pair), max(pair)) for pair in stretches), key=lambda pair: pair[1]))
    assert min(found) >= 0
    assert sum(found) <= len({second for pair in stretches for second in range(min(pair), max(pair))})
