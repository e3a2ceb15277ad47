"""The grammar of charts: axes, marks, legends, line charts."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.pages.charts import (
    LEFT,
    MOST_POINTS,
    RIGHT,
    WIDTH,
    Axis,
    Paint,
    Tick,
    axis_over,
    line_chart,
    plot,
    round_numbers,
    rows,
    spaced,
    thin,
)
from tests.pages.svg import SVG, boxes, inside_the_frame, parsed, words

EVIL = '<script>alert("x")</script>'
RED = Paint("red", 0.5)

# Axes


@given(
    values=st.lists(st.floats(1e-6, 1e24), min_size=1, max_size=20),
    log=st.booleans(),
)
def test_an_axis_keeps_order_and_bounds(values: list[float], log: bool) -> None:
    axis = axis_over(values, 10, 500, log=log)
    places = [axis.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 500 for place in places)
    assert all(10 - 1e-6 <= tick.at <= 500 + 1e-6 for tick in axis.ticks(5))


def test_logarithmic_ticks_are_powers_over_decades_and_round_numbers_below() -> None:
    assert [tick.label for tick in Axis(1e18, 1e21, 0, 1, log=True).ticks(6)] == ["10¹⁸", "10¹⁹", "10²⁰", "10²¹"]
    assert [tick.label for tick in Axis(1.5, 12, 0, 1, log=True).ticks(6)] == ["2", "5", "10"]


def test_labels_that_would_touch_are_left_out() -> None:
    ticks = [Tick(0, "1000"), Tick(10, "1100"), Tick(60, "1200")]
    assert [tick.label for tick in spaced(ticks)] == ["1000", "1200"]


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e9), count=st.integers(2, 12))
def test_round_numbers_lie_between_the_ends_and_are_evenly_spaced(low: float, span: float, count: int) -> None:
    numbers = round_numbers(low, low + span, count)
    slack = 1e-6 * span
    assert all(low - slack <= number <= low + span + slack for number in numbers)
    assert len(numbers) <= count + 1
    steps = [right - left for left, right in pairwise(numbers)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-3) for step in steps)


# Marks


def test_a_box_is_as_wide_as_its_values_whichever_comes_first() -> None:
    chart = rows(Axis(0.0, 10.0, 100.0, 200.0), 2, 30.0)
    chart.box(2.0, 7.0, chart.y.place(0), 12, RED, "there")
    chart.box(7.0, 2.0, chart.y.place(1), 12, RED, "back")
    first, second = boxes(chart.render("x"))
    assert (first.left, first.right) == (second.left, second.right) == (120.0, 170.0)
    assert second.top - first.top == 30.0 and first.bottom - first.top == 12.0
    assert (first.title, second.title) == ("there", "back")


def test_values_outside_are_held_at_the_edge() -> None:
    chart = plot(Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), 0.0, 1.0)
    chart.line([(-5.0, -5.0), (5.0, 5.0)], "red")
    chart.whisker(-9.0, math.inf, 100.0)
    chart.cut(99.0, 50.0, 90.0, "red", 1.0)
    chart.dot(0.5, 7.0, "red")
    assert inside_the_frame(chart.render("x", "y"))


def test_marks_and_names_are_escaped() -> None:
    chart = plot(Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), 0.0, 1.0, {EVIL: RED})
    chart.dot(0.5, 0.5, "red", title=EVIL)
    chart.band([0, 1], [0, 0], [1, 1], RED, EVIL)
    chart.write(100, 100, EVIL)
    svg = chart.render(EVIL, EVIL)
    assert "<script" not in svg and svg.count("&lt;script&gt;") >= 6
    assert parsed(svg) is not None


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_legend_takes_the_rows_it_needs_above_the_chart(count: int) -> None:
    chart = plot(Axis(0.0, 1.0, LEFT, WIDTH - RIGHT), 0.0, 1.0, {f"a longish name {n}": RED for n in range(count)})
    chart.band([0, 1], [0, 0], [1, 1], RED, "all of it")
    root = parsed(chart.render("x", "y"))
    swatches = [(float(rect.attrib["x"]), float(rect.attrib["y"])) for rect in root.iter(f"{SVG}rect")]
    assert len(set(swatches)) == count
    assert all(0 <= x <= WIDTH - 100 and y + 10 < chart.y.end - 12 for x, y in swatches)


# Line charts


def test_a_line_chart_names_each_curve_with_its_last_value() -> None:
    svg = line_chart({"loss": [(0, 4.0), (10, 2.0), (20, 1.5)], "other": [(0, 3.0), (20, 2.5)]}, "tokens", "nats")
    assert {"loss 1.5", "other 2.5", "tokens", "nats"} <= set(words(svg))
    assert inside_the_frame(svg)


def test_what_has_no_points_is_left_out_and_nothing_at_all_is_said() -> None:
    assert "empty" not in line_chart({"loss": [(0, 4.0), (1, 3.0)], "empty": []}, "x", "y")
    assert line_chart({"empty": [], "none": [(0, math.nan)]}, "x", "y") == '<p class="none">nothing recorded</p>'


def test_one_point_is_a_chart() -> None:
    assert inside_the_frame(line_chart({"loss": [(0, 4.0)]}, "x", "y"))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=3000))
def test_thinning_keeps_the_last_place_and_the_mean(values: list[float]) -> None:
    points = list(enumerate(values))
    kept = thin(points)
    assert len(kept) <= MOST_POINTS and kept[-1][0] == points[-1][0]
    if len(values) % math.ceil(len(values) / MOST_POINTS) == 0:
        assert sum(y for _, y in kept) / len(kept) == pytest.approx(sum(values) / len(values))
