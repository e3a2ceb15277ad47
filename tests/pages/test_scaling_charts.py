"""Pictures of forecasts: well-formed SVG, every mark inside the frame, names escaped, nothing drawn from nothing."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from tenfold.pages.charts import Tick
from tenfold.pages.marks import Axis, axis_over, spaced
from tenfold.pages.scaling_charts import (
    Change,
    Profile,
    Residual,
    Ribbon,
    Rung,
    Target,
    curve_chart,
    isoflop_chart,
    ladder_chart,
    residual_chart,
    scientific,
    stack_chart,
)

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '<script>alert("x")</script>'
XS = [1e18, 3e18, 1e19, 1e20]
FIT = Ribbon(
    XS, [3.6, 3.3, 3.0, 2.6], [(0.8, [3.5, 3.2, 2.9, 2.5], [3.7, 3.4, 3.1, 2.7]), (0.95, [3.4] * 4, [3.8] * 4)]
)
TARGET = Target(1e20, 2.6, [(0.8, 2.5, 2.7), (0.95, 2.4, 2.8)], actual=2.63)


def parsed(chart: Markup) -> ET.Element:
    return ET.fromstring(str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def inside_the_frame(chart: Markup) -> bool:
    root = parsed(chart)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    pairs = [
        pair for path in root.iter(f"{SVG}path") for pair in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.attrib["d"])
    ]
    pairs += [(c.attrib["cx"], c.attrib["cy"]) for c in root.iter(f"{SVG}circle")]
    pairs += [(t.attrib["x"], t.attrib["y"]) for t in root.iter(f"{SVG}text")]
    return bool(pairs) and all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in pairs)


def words(chart: Markup) -> str:
    return " ".join(text.text or "" for text in parsed(chart).iter(f"{SVG}text"))


def ladder() -> Markup:
    return ladder_chart([Rung(x, loss, EVIL) for x, loss in zip(XS[:3], (3.61, 3.29, 3.02), strict=True)], FIT, TARGET)


def live() -> Markup:
    forecast = Ribbon([100, 500, 1000], [5.0, 3.5, 3.0], [(0.8, [4.5, 3.3, 2.9], [5.5, 3.7, 3.1])])
    return curve_chart(forecast, [(50, 9.0), (100, 5.1), (300, float("nan")), (500, 3.55)])


def residuals() -> Markup:
    return residual_chart([Residual(1e18, 0.01, EVIL), Residual(1e19, -0.02, "b"), Residual(1e20, 0.004, "b", True)])


def isoflops() -> Markup:
    points = [(1e8, 3.2), (3e8, 3.0), (1e9, 3.1)]
    better = [(x * 3, loss - 0.4) for x, loss in points]
    return isoflop_chart([Profile(1e20, better, minimum=(9e8, 2.6)), Profile(1e19, points, minimum=(3e8, 3.0))])


def stack() -> Markup:
    return stack_chart([Change(EVIL, 1.2, 1.1, 1.35, "adopt"), Change("all", 1.4, 1.1, 1.8, "total")])


CHARTS = [ladder, live, residuals, isoflops, stack]


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_is_well_formed_inside_its_frame_and_always_the_same(chart) -> None:
    assert inside_the_frame(chart())
    assert chart() == chart()
    assert "<script>" not in chart()
    assert "http" not in chart()


def test_charts_say_their_figures() -> None:
    assert "forecast 2.6" in words(ladder())
    assert "measured 2.63" in words(ladder())
    assert "live 3.55" in words(live())
    assert "forecast with 80% bands" in words(live())
    assert "1.20× [1.10, 1.35]" in words(stack())
    assert "10¹⁹" in words(isoflops())
    assert "hollow: held out" in words(residuals())


def test_the_target_is_drawn_without_its_outcome_until_there_is_one() -> None:
    pending = ladder_chart([Rung(1e18, 3.6)], FIT, Target(1e20, 2.6, [(0.8, 2.5, 2.7)]))
    assert "measured" not in words(pending)
    assert inside_the_frame(pending)


def test_wider_bands_lie_behind_narrower_ones() -> None:
    fills = re.findall(r"fill-opacity: ([\d.]+)", str(ladder()))
    assert fills == sorted(fills)
    assert len(fills) == 2


def test_nothing_is_drawn_from_nothing() -> None:
    empty = [ladder_chart([], FIT, TARGET), curve_chart(Ribbon([], [], []), []), residual_chart([]), isoflop_chart([])]
    assert all("nothing recorded" in chart for chart in [*empty, stack_chart([])])


def test_a_curve_chart_before_the_first_evaluation_shows_the_forecast_alone() -> None:
    chart = curve_chart(Ribbon([1, 2], [3.0, 2.0], [(0.8, [2.9, 1.9], [3.1, 2.1])]), [])
    assert inside_the_frame(chart)
    assert "live" not in words(chart)


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
    assert scientific(3.2e19) == "3.2·10¹⁹"
    assert scientific(1e21) == "10²¹"


def test_labels_that_would_touch_are_left_out() -> None:
    ticks = [Tick(0, "1000"), Tick(10, "1100"), Tick(60, "1200")]
    assert [tick.label for tick in spaced(ticks)] == ["1000", "1200"]
