"""Pictures of forecasts: well-formed SVG, every mark inside the frame, names escaped, nothing drawn from nothing."""

import re
from collections.abc import Callable

import pytest
from markupsafe import Markup

from tenfold.pages.changes import ChangeBar, stack_chart
from tenfold.pages.forecast_charts import (
    IsoflopProfile,
    LadderRun,
    Residual,
    Ribbon,
    TargetLoss,
    curve_chart,
    isoflop_chart,
    ladder_chart,
    residual_chart,
)
from tests.pages.svg import inside_the_frame
from tests.pages.svg import words as texts

EVIL = '<script>alert("x")</script>'
XS = [1e18, 3e18, 1e19, 1e20]
FIT = Ribbon(
    XS, [3.6, 3.3, 3.0, 2.6], [(0.8, [3.5, 3.2, 2.9, 2.5], [3.7, 3.4, 3.1, 2.7]), (0.95, [3.4] * 4, [3.8] * 4)]
)
TARGET = TargetLoss(1e20, 2.6, [(0.8, 2.5, 2.7), (0.95, 2.4, 2.8)], actual=2.63)


def words(chart: Markup) -> str:
    return " ".join(texts(chart))


def ladder() -> Markup:
    return ladder_chart(
        [LadderRun(x, loss, EVIL) for x, loss in zip(XS[:3], (3.61, 3.29, 3.02), strict=True)], FIT, TARGET
    )


def live() -> Markup:
    forecast = Ribbon([100, 500, 1000], [5.0, 3.5, 3.0], [(0.8, [4.5, 3.3, 2.9], [5.5, 3.7, 3.1])])
    return curve_chart(forecast, [(50, 9.0), (100, 5.1), (300, float("nan")), (500, 3.55)])


def residuals() -> Markup:
    return residual_chart([Residual(1e18, 0.01, EVIL), Residual(1e19, -0.02, "b"), Residual(1e20, 0.004, "b", True)])


def isoflops() -> Markup:
    points = [(1e8, 3.2), (3e8, 3.0), (1e9, 3.1)]
    better = [(x * 3, loss - 0.4) for x, loss in points]
    return isoflop_chart(
        [IsoflopProfile(1e20, better, minimum=(9e8, 2.6)), IsoflopProfile(1e19, points, minimum=(3e8, 3.0))]
    )


def stack() -> Markup:
    return stack_chart([ChangeBar(EVIL, 1.2, 1.1, 1.35, "adopt"), ChangeBar("all", 1.4, 1.1, 1.8, "total")])


CHARTS = [ladder, live, residuals, isoflops, stack]


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_is_well_formed_inside_its_frame_and_always_the_same(chart: Callable[[], Markup]) -> None:
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
    pending = ladder_chart([LadderRun(1e18, 3.6)], FIT, TargetLoss(1e20, 2.6, [(0.8, 2.5, 2.7)]))
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
