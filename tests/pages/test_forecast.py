"""The report's part on forecast and settlement: right figures, whole HTML, nothing shown of what is not there.

The ladder is made from a known law with noise; law, forecast, curve and multiples come from the code that makes them.
"""

import copy
import functools
import json
import math
from typing import Any

import numpy as np
import pytest

from tenfold.config import Schedule
from tenfold.core.text import WIDEST, figure, interval
from tenfold.pages.changes import ChangeBar, stack_chart
from tenfold.pages.forecast import forecast_page
from tenfold.pages.report import render
from tenfold.scaling.committee import LEVELS
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates
from tenfold.scaling.curve_forecast import BandTracker, FinalLoss, forecast_curve
from tenfold.scaling.multiplier import WIDEST as SOUGHT_TO
from tenfold.scaling.multiplier import effective_compute, effective_data
from tenfold.scaling.predict import Forecast, ScalingLaw, compute_optimal, describe_law, fit_scaling_law
from tenfold.scaling.table import Points, RunTable
from tests.pages.sample import STARTED, TARGET, TARGET_STEPS, Page, base

Record = dict[str, Any]
EVIL = '<script>alert("x")</script>'
SIZES = {"w32-d1": 55_000, "w48-d2": 150_000, "w64-d2": 368_000, "w96-d3": 700_000}
RATIOS = (0.8, 2.0, 5.0)  # tokens per parameter
OUTCOME = 3.05
WSD = Schedule(kind="wsd", warmup=0.05, decay=0.3)


def true_loss(parameters: float, tokens: float) -> float:
    return 1.9 + 21 * parameters**-0.25 + 90 * tokens**-0.33


def points() -> list[Record]:
    """Every size cooled down at every number of tokens, with noise of 0.3%."""
    noise = np.random.default_rng(1)
    return [rung(size, n, n * ratio, noise.normal(0, 0.003)) for size, n in SIZES.items() for ratio in RATIOS]


def rung(size: str, parameters: float, tokens: float, noise: float) -> Record:
    loss = true_loss(parameters, tokens) * math.exp(noise)
    return {
        "size": size,
        "name": f"{size} · {tokens / 1000:.0f}k tokens",
        "N": parameters,
        "D": tokens,
        "C": 6 * parameters * tokens,
        "level": 6 * parameters * tokens,
        "steps": round(tokens / 1024),
        "batch_tokens": 1024,
        "learning_rate": 0.004,
        "seconds": tokens / 40_000,
        "loss": loss,
        "holdouts": {"iid": loss / 2.1, "ood": loss / 1.8},
    }


@functools.cache
def law() -> ScalingLaw:
    rungs = points()
    columns = (np.array([p[key] for p in rungs]) for key in ("N", "D", "C"))
    return fit_scaling_law(RunTable.of(Points.of(*columns), [p["loss"] for p in rungs]), replicates=30)


def shown(forecast: Forecast) -> Record:
    return {
        "N": forecast.parameters,
        "D": forecast.tokens,
        "C": forecast.compute,
        "loss": forecast.loss,
        "intervals": {str(level): list(edges) for level, edges in forecast.intervals.items()},
    }


def ladder() -> Record:
    rungs = points()
    expected = law().log_loss(Points.of(*(np.array([p[key] for p in rungs]) for key in ("N", "D", "C"))))
    pairs = list(zip(rungs, np.exp(expected), strict=True))
    return {
        "holdout": "iid",
        "points": rungs,
        "transfer": {
            "sizes": [
                {"size": "w32-d1", "factors": [0.5, 1.0, 2.0], "losses": [5.51, 5.402, 5.449], "optimum": 1.08},
                {"size": "w64-d2", "factors": [0.5, 1.0, 2.0], "losses": [4.71, 4.655, None], "optimum": 0.96},
            ],
            "moved": 1.12,
            "holds": True,
            "text": "The best learning rate moves by 1.12× from w32-d1 to w64-d2, less than the grid's step.",
        },
        "law": describe_law(law()),
        "residuals": [{"x": p["C"], "relative": p["loss"] / fit - 1, "group": p["size"]} for p, fit in pairs],
        "profiles": [profile(budget) for budget in (1e11, 4e11, 1.6e12)],
        "seconds": sum(p["seconds"] for p in rungs),
    }


def profile(budget: float) -> Record:
    optimum = compute_optimal(law(), budget)
    n = np.geomspace(0.25, 4, 9) * math.exp(optimum.n[0])
    fitted = np.exp(law().log_loss(Points.of(n, budget / (6 * n))))
    [best] = law().forecast(optimum)
    some = [[float(size), true_loss(size, budget / (6 * size))] for size in n[::2]]
    curve = [[float(x), float(y)] for x, y in zip(n, fitted, strict=True)]
    return {"budget": budget, "points": some, "fitted": curve, "minimum": [best.parameters, best.loss]}


def forecast(outcome: float | None) -> Record:
    """Forecast and, with an outcome, its settlement."""
    point = law().points(*TARGET)
    [loss] = law().forecast(point)
    seconds = {"0.5": [101.0, 105.0], "0.8": [98.0, 108.0], "0.95": [93.0, 113.0]}
    settled = outcome is not None
    return {
        "registered_at": STARTED - 725.0,
        "digest": "3f9a" * 16,
        "trained_before": False,
        "target": {"N": TARGET[0], "D": TARGET[1], "C": loss.compute, "steps": TARGET_STEPS},
        "quantities": [
            quantity("iid loss", "nats per token", loss.loss, shown(loss)["intervals"], outcome),
            quantity("training seconds", "seconds", 103.0, seconds, 121.0 if settled else None),
        ],
        "ribbon": ribbon(),
        **curve_and_live(loss, settled),
        "compute_optimal": shown(*law().forecast(compute_optimal(law(), loss.compute))),
        "ten_times_compute": shown(*law().forecast(compute_optimal(law(), 10 * loss.compute))),
        "ten_times_data": shown(*law().forecast(law().points(TARGET[0], 10 * TARGET[1]))),
        "effective": effective(outcome) if outcome else None,
        "notes": list(loss.notes),
    }


def effective(outcome: float) -> Record:
    return {
        "compute": vars(effective_compute(law(), *TARGET, outcome)),
        "data": vars(effective_data(law(), *TARGET, outcome)),
    }


def quantity(name: str, unit: str, median: float, intervals: Record, outcome: float | None) -> Record:
    inside = outcome and next((lv for lv, (low, high) in intervals.items() if low <= outcome <= high), "outside")
    error = None if outcome is None else outcome / median - 1
    head = {"quantity": name, "unit": unit, "median": median, "intervals": intervals}
    return {**head, "outcome": outcome, "error": error, "inside": inside, "settled_at": outcome and STARTED + 200}


def ribbon() -> Record:
    """The law at the target's tokens per parameter, from the smallest rung on to a little beyond the target."""
    root = np.geomspace(math.sqrt(points()[0]["C"] / (6 * TARGET[0] * TARGET[1])), 1.3, 40)
    path = Points.of(TARGET[0] * root, TARGET[1] * root)
    expected = law().log_loss(path)
    widths = {level: law().half_widths(path, level) for level in LEVELS}
    edges = [[lv, np.exp(expected - w).tolist(), np.exp(expected + w).tolist()] for lv, w in widths.items()]
    return {"xs": np.exp(path.c).tolist(), "values": np.exp(expected).tolist(), "bands": edges}


def curve_and_live(loss: Forecast, settled: bool) -> Record:
    rungs = [training_curve(p["N"], p["D"], p["steps"]) for p in points() if p["D"] == 2.0 * p["N"]]
    target = training_curve(*TARGET, TARGET_STEPS)
    made = forecast_curve(rungs, target.run, FinalLoss(loss.loss, loss.intervals))
    live = list(zip(target.steps.tolist(), target.losses.tolist(), strict=True))[::4] if settled else []
    tracker = BandTracker(made, patience=2)
    events = [str(event) for step, loss in live if (event := tracker.observe(step, loss))]
    tracking = {"level": 0.95, "side": tracker.side, "count": tracker.count, "events": events}
    return {"curve": made.record(), "live": live, "tracking": tracking}


def training_curve(parameters: float, tokens: float, steps: int) -> Curve:
    """A plausible curve that ends at the true loss."""
    run = CurveRun(schedule_rates(WSD, steps), parameters, tokens / steps)
    at = np.unique(np.linspace(5, steps, 80).astype(np.int64))
    share = at / steps
    above = 0.10 * (share**-0.45 - 1) + 0.06 * run.learning_rates[at - 1]
    return Curve(run, at, true_loss(parameters, tokens) * (1 + above))


def change(name: str, verdict: str, pooled: tuple[float, ...], at_target: tuple[float, ...]) -> Record:
    keys = ("value", "low", "high")
    scales = [
        {"rung": size, "compute": 6 * n * n * 2.0, "seeds": 2, **dict(zip(keys, pooled, strict=True))}
        for size, n in list(SIZES.items())[:3]
    ]
    return {
        "name": name,
        "description": "SwiGLU to GELU at equal parameters",
        "set": {"model.mlp": "gelu"},
        "stack": [],
        "decided_at": STARTED - 9000,
        "assessment": {
            "verdict": verdict,
            "why": f"the whole interval over the ladder lies on one side of 1, {name}",
            "trend": "unclear",
            "pooled": {**dict(zip(keys, pooled, strict=True)), "level": 0.8},
            "at_target": {**dict(zip(keys, at_target, strict=True)), "level": 0.8},
            "scales": scales,
            "seeds": 2,
            "noise": 0.003,
        },
    }


def stack() -> Record:
    return {
        "predicted": {"value": 1.06, "low": 0.8, "high": 1.42},
        "measured": {"value": 1.11, "low": 0.9, "high": 1.37},
        "held": True,
        "text": "Together 1.11× against 1.06× as a product: the gains multiply as far as these runs can tell.",
    }


@functools.cache
def _whole() -> Record:
    gelu = change("gelu", "reject", (0.88, 0.84, 0.93), (0.86, 0.7, 1.05))
    norm = change("qk-norm", "adopt", (1.21, 1.15, 1.27), (1.24, 1.1, 1.4))
    return {
        **base(),
        "ladder": ladder(),
        "forecast": forecast(OUTCOME),
        "calibration": {"settled": 6, "inside": {"0.5": 0.5, "0.8": 5 / 6, "0.95": 1.0}, "mean_error": 0.0063},
        "changes": [norm, gelu],
        "stack": stack(),
    }


def whole(**other: Any) -> Record:
    """A settled report with everything in it, as it is read back from report.json; `other` replaces keys."""
    return {**json.loads(json.dumps(_whole())), **other}


def test_a_settled_forecast_is_told_in_one_sentence() -> None:
    report = whole()
    loss = report["forecast"]["quantities"][0]
    low, high = loss["intervals"]["0.8"]
    text = Page(render(report)).text
    digits = 1 - math.floor(math.log10(high - low))
    assert (
        f"Forecast before training: iid loss {loss['median']:.{digits}f} nats per token, 80% interval "
        f"[{low:.{digits}f}, {high:.{digits}f}]; measured {OUTCOME:.{digits}f}: {abs(loss['error']):.2%} off, "
        f"inside the {float(loss['inside']):.0%} interval."
    ) in text
    assert "Registered 2026-09-21 14:13:20 UTC, 12m05s before training began." in text


def test_the_settled_table_says_what_was_missed_and_by_how_much() -> None:
    text = Page(render(whole())).text
    assert "training seconds 103 [98, 108] 121 +17% outside 95%" in text
    assert "6 forecasts settled so far, on average 0.63% off." in text
    assert "50% 50% 80% 83% 95% 100%" in text


def test_before_settlement_nothing_is_claimed() -> None:
    page = render(whole(forecast=json.loads(json.dumps(forecast(None)))))
    text = Page(page).text
    assert "; not measured yet. Registered 2026-09-21" in text
    assert text.count("not measured yet") == 3
    assert "off, inside" not in text
    assert "By the loss it reached" not in text
    assert "measured 3.0" not in text
    assert "The loss ends" not in text


def test_a_forecast_made_after_training_is_not_called_one() -> None:
    late = whole()["forecast"] | {"trained_before": True}
    text = Page(render(whole(forecast=late))).text
    assert "Computed after training, so this is no forecast" in text
    assert "before training" not in text


def test_law_outlook_ladder_and_transfer_are_there() -> None:
    text = Page(render(whole())).text
    best = describe_law(law())
    assert f"The law: {best['form']}" in text
    assert f"L = {best['formula']}" in text
    assert f"best, from {best['origins']} origins" in text
    [more] = law().forecast(compute_optimal(law(), 60 * TARGET[0] * TARGET[1]))
    low, high = more.intervals[0.8]
    assert f"{figure(more.loss, high - low)} {interval((low, high))}" in text
    assert "Ladder: 12 runs of 4 sizes" in text
    assert "w64-d2 · 736k tokens" in text
    assert "Does the learning rate transfer? yes" in text
    assert "2× 5.449 –" in text


def test_every_chart_is_drawn_once() -> None:
    page = render(whole())
    for heading in (
        "The ladder and the law through it",
        "Training loss in its band",
        "What the law leaves unexplained",
        "Loss over size at equal compute",
        "What each is worth at the target",
    ):
        assert page.count(heading) == 1
    assert f"measured {OUTCOME}" in Page(page).text


def test_changes_and_their_stack_are_listed() -> None:
    text = Page(render(whole())).text
    assert "model.mlp = gelu" in text
    assert "adopt 1.21× [1.15, 1.27] 1.24× [1.10, 1.40] unclear 2 0.30%" in text
    assert "product 1.06× [0.80, 1.42] together 1.11× [0.90, 1.37]" in text
    assert "the gains multiply" in text
    assert "rung FLOPs qk-norm gelu w32-d1 3.6·10¹⁰ 1.21× [1.15, 1.27] 0.88× [0.84, 0.93]" in text


SECTIONS = {
    "Forecast and settlement": ("ladder", "forecast", "calibration"),
    "The law:": ("ladder",),
    "Training loss in its band": ("forecast",),
    "Changes tried": ("changes",),
    "forecasts settled so far": ("calibration",),
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_what_is_null_or_absent_is_left_out(heading: str) -> None:
    keys = SECTIONS[heading]
    assert heading in render(whole())
    nulls: Record = dict.fromkeys(keys)
    page = render(whole(**nulls))
    assert heading not in Page(page).text
    absent = {key: value for key, value in whole().items() if key not in keys}
    assert render(absent) == page


def test_an_old_report_has_neither_section() -> None:
    text = Page(render(base())).text
    assert "Forecast" not in text
    assert "Changes" not in text
    assert "Learning" in text


@pytest.mark.parametrize(
    ("side", "count", "said"),
    [
        ("before", 2, "still warming up"),
        ("inside", 9, "ends inside the 95% band, where it has been for 9 measurements"),
        ("above", 1, "ends above the 95% band, where it was not before"),
    ],
)
def test_where_the_live_curve_is(side: str, count: int, said: str) -> None:
    report = whole()
    report["forecast"]["tracking"] |= {"side": side, "count": count, "events": ["step 40: left the band"]}
    text = Page(render(report)).text
    assert said in text
    assert "step 40: left the band" in text


def test_until_a_forecast_is_settled_there_is_no_calibration() -> None:
    none = {"settled": 0, "inside": {"0.5": None}, "mean_error": None}
    assert "settled so far" not in render(whole(calibration=none))
    one = {"settled": 1, "inside": {"0.5": 0.0}, "mean_error": 0.01}
    assert "1 forecast settled so far, on average 1.0% off." in render(whole(calibration=one))


@pytest.mark.parametrize("part", ["curve", "tracking", "effective"])
def test_parts_of_a_forecast_may_be_missing(part: str) -> None:
    report = whole()
    report["forecast"][part] = None
    assert "Forecast and settlement" in Page(render(report)).text


@pytest.mark.parametrize("part", ["law", "transfer"])
def test_parts_of_a_ladder_may_be_missing(part: str) -> None:
    report = whole()
    report["ladder"] |= {part: None, "residuals": [], "profiles": []}
    report["ladder"]["points"][0]["loss"] = None
    page = render(report)
    assert "Loss over size" not in page
    assert "The ladder and the law" in Page(page).text


def test_whatever_the_words_they_are_escaped() -> None:
    report = whole()
    evil = spoiled({key: report[key] for key in ("ladder", "forecast", "changes", "stack")})
    page = render(report | evil)
    assert Page(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


NAMING = {"verdict", "trend", "inside", "unit"}  # words that the page looks up


def spoiled(value: Any, key: str = "") -> Any:
    """Every text replaced by a script, other than those that have a meaning to the page."""
    if isinstance(value, dict):
        return {name: spoiled(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [spoiled(inner, key) for inner in value]
    return EVIL if isinstance(value, str) and key not in NAMING else value


def test_the_same_report_gives_the_same_page_and_reads_nothing_from_elsewhere() -> None:
    page = render(whole())
    assert page == render(whole())
    assert "http" not in page


def test_a_report_is_not_changed_by_rendering() -> None:
    report = whole()
    before = copy.deepcopy(report)
    render(report)
    assert report == before


def test_without_a_ladder_the_first_quantity_leads() -> None:
    page = forecast_page(whole(ladder=None))
    assert page is not None
    assert page.lead.startswith("Forecast before training: iid loss")
    assert set(page.charts) == {"curve"}


def test_a_multiple_is_open_where_scaling_stops_seeking() -> None:
    assert WIDEST == SOUGHT_TO


def test_open_multiples_are_written_and_drawn() -> None:
    report = whole()
    report["forecast"]["effective"]["compute"] |= {"value": math.inf, "low": 1.7, "high": math.inf}
    report["changes"][0]["assessment"]["at_target"] |= {"low": 0.0, "high": 1e6}
    text = Page(render(json.loads(json.dumps(report)))).text
    assert "this run is worth ∞× [1.70, ∞] its compute" in text
    assert "1.24× [0, ∞]" in text
    assert "nan" not in stack_chart([ChangeBar("open", math.inf, 0.0, math.inf)])
