"""Pictures of a plan: marks are as long as their values say, nothing is left out, names are escaped."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.pages.charts import WIDTH, Paint
from tenfold.pages.plan import MOST_MEASURED, FleetLine, FleetPoint, Front, FrontPoint, Lever, Sensitivity
from tenfold.pages.plan_charts import (
    Bar,
    bars_picture,
    fleet_picture,
    front_picture,
    tornado_picture,
)
from tenfold.planner.calibration import calibrated
from tests.campaign.plan.example import made_up_fleet, made_up_front, made_up_sensitivity
from tests.pages.svg import SVG, Box, boxes, dots, parsed, titled, words

EVIL = '<script>alert("x")</script>'
PAINTS = {name: Paint(f"var(--c{number})", 0.9) for number, name in enumerate(("compute", "network", "waiting"))}
sizes = st.floats(0.01, 1e3)


def bar(*parts: float, name: str = "a layout", interval: tuple[float, float] | None = None) -> Bar:
    return Bar(name, "micro-batch 1", f"{sum(parts):.3g} s", dict(zip(PAINTS, parts, strict=True)), interval)


# Stacked bars


@given(st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=6))
def test_parts_are_as_long_as_their_values_and_follow_one_another(rows: list[tuple[float, ...]]) -> None:
    drawn = titled(bars_picture([bar(*parts) for parts in rows], PAINTS, "seconds"))
    scale = max(box.right - drawn[0].left for box in drawn) / max(sum(parts) for parts in rows)
    for number, parts in enumerate(rows):
        mine = drawn[3 * number : 3 * number + 3]
        assert [box.width for box in mine] == pytest.approx([scale * part for part in parts], abs=0.02)
        assert all(math.isclose(left.right, right.left, abs_tol=0.02) for left, right in pairwise(mine))
        assert len({(box.top, box.bottom) for box in mine}) == 1


def test_hovering_tells_a_part_and_its_share() -> None:
    assert [box.title for box in titled(bars_picture([bar(6, 3, 1)], PAINTS, "seconds"))] == [
        "compute: 6 (60.0%)",
        "network: 3 (30.0%)",
        "waiting: 1 (10.0%)",
    ]


def test_what_is_zero_everywhere_is_not_in_the_legend() -> None:
    picture = bars_picture([bar(6, 0, 1), bar(5, 0, 2)], PAINTS, "seconds")
    assert "compute" in words(picture) and "waiting" in words(picture)
    assert "network" not in words(picture)
    assert len(titled(picture)) == 4


def ends_of_whisker(picture: str) -> tuple[float, float]:
    found = re.search(r'd="M([\d.]+),[\d.]+ H([\d.]+) M', picture)
    assert found
    return float(found[1]), float(found[2])


def test_the_interval_lies_around_the_end_of_its_bar() -> None:
    picture = bars_picture([bar(6, 3, 1, interval=(8, 13))], PAINTS, "seconds")
    drawn = titled(picture)
    scale = (drawn[-1].right - drawn[0].left) / 10
    assert ends_of_whisker(picture) == pytest.approx((drawn[0].left + 8 * scale, drawn[0].left + 13 * scale), abs=0.05)


def test_a_limit_crosses_every_bar_at_its_value_and_what_is_beyond_is_said_in_its_colour() -> None:
    picture = bars_picture([bar(60, 30, 10), bar(40, 20, 10)], PAINTS, "GB", limits={"all of it": 80.0})
    drawn = titled(picture)
    scale = (drawn[2].right - drawn[0].left) / 100
    marks = [
        float(path.attrib["d"].split(",")[0][1:])
        for path in parsed(picture).iter(f"{SVG}path")
        if "stroke: var(--c1)" in path.attrib["style"]
    ]
    assert marks == pytest.approx([drawn[0].left + 80 * scale] * 2, abs=0.02)
    coloured = {text.text: text.attrib.get("style", "") for text in parsed(picture).iter(f"{SVG}text")}
    assert "fill: var(--c1)" in coloured["100 s"] and "fill: var(--ink)" in coloured["70 s"]
    assert "all of it" in coloured


def test_a_percentage_keeps_clear_of_a_limit() -> None:
    picture = bars_picture([bar(100, 1, 1)], PAINTS, "GB", limits={"half": 51.0})
    (first, *_) = titled(picture)
    text = next(text for text in parsed(picture).iter(f"{SVG}text") if text.text == "98%")
    scale = first.width / 100
    assert abs(float(text.attrib["x"]) - (first.left + 51 * scale)) > 16


def test_names_are_escaped_everywhere() -> None:
    evil = Front(EVIL, EVIL, (FrontPoint(EVIL, 1, 1, 1, 1, True),))
    for picture in (
        bars_picture([Bar(EVIL, EVIL, EVIL, {"compute": 1.0})], PAINTS, EVIL, limits={EVIL: 2.0}),
        front_picture(evil),
        fleet_picture([FleetLine(EVIL, (FleetPoint(10, 0.5, 0.4, 0.6),))]),
        tornado_picture(Sensitivity(EVIL, (Lever(EVIL, EVIL, 0.1, EVIL, -0.1),))),
    ):
        assert "<script" not in picture and "&lt;script&gt;" in picture
        assert parsed(picture) is not None


def test_nothing_is_drawn_from_nothing() -> None:
    for picture in (
        bars_picture([], PAINTS, "seconds"),
        front_picture(Front("x", "y", ())),
        fleet_picture([]),
        fleet_picture([FleetLine("synchronous", ())]),
        tornado_picture(Sensitivity("days", ())),
    ):
        assert "svg" not in picture and "nothing recorded" in picture


# The front


def test_points_are_where_their_values_say_and_intervals_reach_from_low_to_high() -> None:
    front = made_up_front()
    picture = front_picture(front)
    placed = {title.split(":")[0]: (x, y) for x, y, title in dots(picture)}
    assert set(placed) == {point.name for point in front.points}
    first, last = front.points[0], front.points[3]
    per_x = (placed[last.name][0] - placed[first.name][0]) / (last.x - first.x)
    per_y = (placed[last.name][1] - placed[first.name][1]) / (last.y - first.y)
    assert per_x > 0 > per_y
    for point in front.points:
        expected = (
            placed[first.name][0] + per_x * (point.x - first.x),
            placed[first.name][1] + per_y * (point.y - first.y),
        )
        assert placed[point.name] == pytest.approx(expected, abs=0.3)
        x, _ = placed[point.name]
        upright = re.search(rf'd="M{x:.1f},([\d.]+) L{x:.1f},([\d.]+)"', picture)
        assert upright
        assert float(upright[1]) - float(upright[2]) == pytest.approx(-per_y * (point.high - point.low), abs=0.3)


def test_those_on_the_front_are_joined_and_named() -> None:
    front = made_up_front()
    picture = front_picture(front)
    (joined,) = re.findall(r'd="M([^"]*)"[^>]*stroke-dasharray', picture)
    assert joined.count("L") == sum(point.best for point in front.points) - 1
    assert {point.name for point in front.points if point.best} <= set(words(picture))
    assert not {point.name for point in front.points if not point.best} & set(words(picture))


def test_names_that_would_lie_on_one_another_are_left_to_hovering() -> None:
    points = tuple(FrontPoint(f"layout {n}", 1 + n * 1e-6, 2 - n * 1e-6, 1.9, 2.1, True) for n in range(40))
    crowd = (*points, FrontPoint("far", 9.0, 1.0, 0.9, 1.1, True))
    picture = front_picture(Front("days", "loss", crowd))
    assert 1 <= sum(word.startswith("layout") for word in words(picture)) <= 2
    assert len(dots(picture)) == 41


# The fleet


def test_the_shade_begins_where_the_planner_says_that_measurements_end() -> None:
    assert MOST_MEASURED == calibrated.MOST_MEASURED


def shade(picture: str) -> list[Box]:
    found = re.search(
        r'<path d="M([\d.]+),([\d.]+) L([\d.]+),[\d.]+ L[\d.]+,([\d.]+) L[^"]* Z" style="([^"]*)"><title>larger',
        picture,
    )
    return [Box(float(found[1]), float(found[3]), float(found[2]), float(found[4]), "", found[5])] if found else []


def test_sizes_beyond_what_was_measured_are_shaded_from_there_on() -> None:
    picture = fleet_picture(made_up_fleet())
    (area,) = shade(picture)
    places = {title.split(", ", 1)[1].split(" devices")[0]: x for x, _, title in dots(picture)}
    per_decade = (places["10,000,000"] - places["1,000"]) / 4
    assert area.left == pytest.approx(places["1,000"] + per_decade * math.log10(MOST_MEASURED / 1000), abs=0.2)
    assert area.right == pytest.approx(float(WIDTH - 14), abs=0.2)
    assert "shaded: extrapolation" in words(picture)


def test_a_small_fleet_is_no_extrapolation() -> None:
    points = tuple(FleetPoint(size, 0.9, 0.85, 0.95) for size in (100, 1000, 40_000))
    picture = fleet_picture([FleetLine("synchronous", points)])
    assert not shade(picture) and "shaded: extrapolation" not in words(picture)


def test_goodput_is_as_high_as_it_is() -> None:
    picture = fleet_picture([FleetLine("elastic", tuple(FleetPoint(10**n, n / 10, 0.0, 1.0) for n in (1, 3, 5)))])
    heights = [y for _, y, _ in dots(picture)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2])
    assert heights[0] > heights[1]
    assert "elastic, 1,000 devices: 30.0% [0.0%, 100.0%]" in [title for _, _, title in dots(picture)]


def test_every_mode_has_a_colour_of_its_own_and_a_place_in_the_legend() -> None:
    picture = fleet_picture(made_up_fleet())
    assert {"synchronous", "elastic", "semi-synchronous"} <= set(words(picture))
    strokes = [
        path.attrib["style"] for path in parsed(picture).iter(f"{SVG}path") if "fill: none" in path.attrib["style"]
    ]
    assert len(set(strokes)) == 3


# The tornado


def test_the_widest_bar_is_on_top_and_bars_are_as_long_as_the_change() -> None:
    sensitivity = made_up_sensitivity()
    picture = tornado_picture(sensitivity)
    names = [word for word in words(picture) if word in {lever.name for lever in sensitivity.levers}]
    assert names[0] == "peak FLOP/s" and names[-1] == "device memory"
    changes = {
        f"{lever.name}, {s}": c
        for lever in sensitivity.levers
        for s, c in ((lever.worse_setting, lever.worse), (lever.better_setting, lever.better))
    }
    drawn = {box.title.split(":")[0]: box for box in titled(picture)}
    assert set(drawn) == set(changes)
    scale = drawn["peak FLOP/s, 20% less"].width / 0.171
    for name, change in changes.items():
        assert change is not None and drawn[name].width == pytest.approx(scale * abs(change), abs=0.02)
    zero = drawn["peak FLOP/s, 20% less"].left
    for name, change in changes.items():
        assert (drawn[name].left if change is not None and change > 0 else drawn[name].right) == pytest.approx(
            zero, abs=0.02
        )


def test_two_changes_on_one_side_do_not_hide_one_another() -> None:
    drawn = titled(tornado_picture(Sensitivity("days", (Lever("batch", "half", 0.2, "twice", 0.1),))))
    assert drawn[0].bottom <= drawn[1].top


def test_what_was_not_tried_has_no_bar() -> None:
    picture = tornado_picture(Sensitivity("days", (Lever("NIC bandwidth", "", None, "20% more", -0.06),)))
    assert [box.title for box in titled(picture)] == ["NIC bandwidth, 20% more: −6.0%"]
    assert "nothing fits" not in words(picture) and "20% more" in words(picture)


def test_where_nothing_fits_that_is_said_and_stands_on_top() -> None:
    levers = (Lever("FLOP/s", "half", 0.9, "twice", -0.4), Lever("memory", "half", None, "twice", -0.01))
    picture = tornado_picture(Sensitivity("days", levers))
    shown = words(picture)
    assert "nothing fits" in shown and shown.index("memory") < shown.index("FLOP/s")
    assert [box.title.split(":")[0] for box in titled(picture)] == ["memory, twice", "FLOP/s, half", "FLOP/s, twice"]


def test_settings_that_differ_stand_under_their_names() -> None:
    levers = (Lever("NIC", "half", 0.1, "twice", -0.05), Lever("memory", "80 GB", 0.02, "141 GB", -0.01))
    shown = words(tornado_picture(Sensitivity("days", levers)))
    assert {"half or twice", "80 GB or 141 GB", "+10.0%", "−1.0%", "made worse", "made better"} <= set(shown)


def test_no_change_at_all_is_drawn_too() -> None:
    picture = tornado_picture(Sensitivity("days", (Lever("nothing", "less", 0.0, "more", 0.0),)))
    assert [box.width for box in boxes(picture) if box.title] == [0.0, 0.0]
    assert "nan" not in picture
