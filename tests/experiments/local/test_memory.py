"""The heap holds at least what is alive, gives memory back, and shows the holes that aligned tensors leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.experiments.local.memory import TOP_PAD, Event, Heap

SIZES = st.integers(min_value=4, max_value=40 * 2**20)


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Tensors made and freed in any order; some stay."""
    events: list[Event] = []
    alive: list[int] = []
    for number, size in enumerate(draw(st.lists(SIZES, min_size=1, max_size=40))):
        events.append((number, size))
        alive.append(number)
        while alive and draw(st.booleans()):
            events.append((alive.pop(draw(st.integers(0, len(alive) - 1))), -1))
    return events


def most_alive(events: list[Event]) -> int:
    sizes, now, most = dict(e for e in events if e[1] >= 0), 0, 0
    for number, size in events:
        now += size if size >= 0 else -sizes[number]
        most = max(most, now)
    return most


@given(lives())
def test_the_peak_is_at_least_what_was_alive(events: list[Event]) -> None:
    heap = Heap()
    heap.replay(events)
    assert heap.peak >= most_alive(events)


@given(lives())
def test_tensors_that_all_live_cost_little_more_than_their_bytes(events: list[Event]) -> None:
    made = [event for event in events if event[1] >= 0]
    heap = Heap()
    heap.replay(made)
    assert heap.peak <= most_alive(made) + len(made) * 8192 + TOP_PAD + 4096


@given(lives(), st.integers(1, 3))
def test_a_step_repeated_needs_no_more_and_no_more(events: list[Event], again: int) -> None:
    made = {number for number, size in events if size >= 0} - {number for number, size in events if size < 0}
    closed = events + [(number, -1) for number in made]
    once, often = Heap(), Heap()
    once.replay(closed)
    for step in range(again + 3):
        often.replay([(number + step * len(events), size) for number, size in closed])
    assert often.peak <= 3 * max(once.peak, 1)


def test_a_hole_beside_living_tensors_is_too_small_for_the_same_size() -> None:
    """The reason why a step needs more than its tensors: large blocks between ones that stay cannot be used again."""
    size, count = 100_000, 50
    heap = Heap()
    heap.replay([(number, size) for number in range(2 * count)])
    before = heap.peak
    heap.replay([(number, -1) for number in range(0, 2 * count, 2)])
    heap.replay([(number, size) for number in range(1000, 1000 + count)])
    assert heap.peak == pytest.approx(before + count * size, rel=0.02)


def test_large_tensors_are_given_back_at_once() -> None:
    heap = Heap()
    for number in range(5):
        heap.replay([(number, 64 * 2**20), (number, -1)])
    assert heap.peak < 65 * 2**20
