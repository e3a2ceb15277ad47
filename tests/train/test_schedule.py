"""Learning-rate schedules: bounded, warm up linearly, end where they should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.config import Schedule
from tenfold.train.schedule import learning_rate_factor

KINDS = st.sampled_from(["wsd", "cosine", "linear"])


@given(kind=KINDS, steps=st.integers(1, 3000), warmup=st.floats(0, 0.5), decay=st.floats(0, 0.5), final=st.floats(0, 1))
def test_the_factor_stays_within_bounds_and_never_starts_at_zero(kind, steps, warmup, decay, final) -> None:
    schedule = Schedule(kind=kind, warmup=warmup, decay=decay, final=final)
    factors = [learning_rate_factor(schedule, step, steps) for step in range(steps)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0


@pytest.mark.parametrize("kind", ["wsd", "cosine", "linear"])
def test_it_rises_then_falls_and_ends_near_final(kind) -> None:
    schedule = Schedule(kind=kind, warmup=0.1, decay=0.3, final=0.1)
    factors = [learning_rate_factor(schedule, step, 1000) for step in range(1000)]
    assert factors[:100] == sorted(factors[:100])
    assert factors[99:] == sorted(factors[99:], reverse=True)
    assert factors[99] == 1.0
    assert factors[-1] == pytest.approx(0.1, abs=0.01)


def test_wsd_stays_at_the_peak_until_the_decay() -> None:
    schedule = Schedule(kind="wsd", warmup=0.1, decay=0.3)
    assert all(learning_rate_factor(schedule, step, 100) == 1.0 for step in range(9, 70))
    assert learning_rate_factor(schedule, 70, 100) < 1.0
