"""Liveness: what stands still is found, what is merely slow is left alone."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.membership import Liveness


def stepping(seconds: list[float], minimum: float = 2.0, factor: float = 3.0) -> tuple[Liveness, float]:
    """Incarnation 1 after steps of these lengths; (liveness, the time of its last step)."""
    liveness = Liveness(minimum, factor)
    liveness.started(1, 0.0)
    now = 0.0
    liveness.progress(1, now, 0, 0)
    for step, length in enumerate(seconds, start=1):
        now += length
        liveness.progress(1, now, step, 0)
    return liveness, now


def allowance(liveness: Liveness, now: float) -> float:
    """Seconds without progress until incarnation 1 counts as stalled, found by asking."""
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if liveness.stalled(now + middle) else (middle, high)
    return high


def test_a_hung_training_thread_with_a_healthy_heartbeat_is_stalled() -> None:
    liveness, now = stepping([1.0] * 5)
    for beat in range(1, 31):
        liveness.progress(1, now + beat / 10, 5, 0)
    assert liveness.stalled(now + 3.0) == []
    assert liveness.stalled(now + 3.1) == [(1, pytest.approx(3.1))]
    assert liveness.silence(1, now + 3.1) == pytest.approx(3.1)
    liveness.progress(1, now + 3.2, 6, 0)
    assert liveness.stalled(now + 3.3) == []


def test_a_process_that_is_gone_is_stalled() -> None:
    liveness, now = stepping([1.0] * 5)
    assert liveness.stalled(now + 60) == [(1, 60.0)]


def test_joining_may_take_thirty_times_the_minimum() -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.joining(1, 100.0)
    assert allowance(liveness, 100.0) == pytest.approx(60.0)
    liveness.started(1, 150.0)
    assert allowance(liveness, 150.0) == pytest.approx(20.0)


def test_to_wait_for_samples_is_no_stall_and_no_long_step() -> None:
    liveness, now = stepping([1.0] * 5)
    for waits in range(1, 41):
        now += 2.5
        liveness.progress(1, now, 5, waits)
        assert liveness.stalled(now + 2.5) == []
    liveness.progress(1, now + 1.0, 6, 40)
    assert allowance(liveness, now + 1.0) == pytest.approx(3.0)
    assert liveness.step_seconds(1) == pytest.approx(1.0)


def test_the_first_step_may_take_ten_times_the_minimum() -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.started(1, 100.0)
    assert liveness.stalled(120.0) == []
    assert liveness.stalled(120.5) == [(1, 20.5)]
    liveness.progress(1, 101.0, 0, 0)
    assert allowance(liveness, 101.0) == pytest.approx(20.0)


def test_a_step_slower_than_the_minimum_is_no_stall_from_the_second_on() -> None:
    liveness, now = stepping([15.0], minimum=2.0, factor=3.0)
    assert allowance(liveness, now) == pytest.approx(45.0)
    liveness.progress(1, now + 5.0, 2, 0)  # the first one was slow by compiling and is forgotten
    assert allowance(liveness, now + 5.0) == pytest.approx(15.0)


def test_a_restarted_watch_begins_anew() -> None:
    liveness, now = stepping([1.0] * 5)
    liveness.started(1, now)
    assert allowance(liveness, now) == pytest.approx(20.0)
    assert liveness.step_seconds(1) is None


def test_steps_faster_than_beats_count_each() -> None:
    liveness, now = stepping([1.0, 1.0])
    liveness.progress(1, now + 4.0, 10, 0)
    assert liveness.step_seconds(1) == pytest.approx(median([1.0, 0.5]))


def test_the_dead_stay_forgotten_and_the_unknown_is_refused() -> None:
    liveness, now = stepping([1.0] * 5)
    liveness.forget(1)
    liveness.forget(1)
    liveness.progress(1, now + 1, 6, 0)
    assert liveness.stalled(now + 1000) == []
    for ask in (lambda: liveness.silence(1, now), lambda: liveness.step_seconds(1)):
        with pytest.raises(TenfoldError, match="incarnation 1 is not watched"):
            ask()


def test_lives_are_judged_each_by_its_own_pace() -> None:
    liveness = Liveness(1.0, 2.0)
    for incarnation, length in ((2, 10.0), (1, 1.0)):
        liveness.started(incarnation, 0.0)
        for step in range(4):
            liveness.progress(incarnation, step * length, step, 0)
    assert liveness.stalled(31.0) == [(1, 28.0)]
    assert liveness.stalled(51.0) == [(1, 48.0), (2, 21.0)]


@given(
    seconds=st.lists(st.floats(0.01, 50), min_size=2, max_size=60),
    minimum=st.floats(0.5, 20),
    factor=st.floats(1, 10),
    share=st.floats(0, 3),
)
def test_a_stall_is_what_exceeds_the_allowance_of_the_last_twenty_steps(seconds, minimum, factor, share) -> None:
    liveness, now = stepping(seconds, minimum, factor)
    allowed = max(minimum, factor * max(seconds[1:][-20:]))
    silence = share * allowed
    if abs(silence - allowed) > 1e-6 * allowed:
        assert bool(liveness.stalled(now + silence)) == (silence > allowed)
    assert liveness.step_seconds(1) == pytest.approx(median(seconds[1:][-20:]), rel=1e-6, abs=1e-6)


reports = st.tuples(st.floats(0, 100), st.integers(0, 5), st.integers(0, 3))


@given(beats=st.lists(reports, max_size=40), wait=st.floats(0, 100))
def test_whatever_is_reported_silence_counts_from_the_last_change_and_short_ones_are_no_stall(beats, wait) -> None:
    liveness = Liveness(2.0, 3.0)
    liveness.started(1, 0.0)
    now, changed, last = 0.0, 0.0, None
    for gap, *report in beats:
        now += gap
        liveness.progress(1, now, *report)
        if report != last:
            changed, last = now, report
    now += wait
    assert liveness.silence(1, now) == pytest.approx(now - changed)
    assert not liveness.stalled(changed + 2.0 - 1e-6)
    assert liveness.stalled(changed + max(20.0, 3.0 * (now + 1.0)) + 1e-6)
