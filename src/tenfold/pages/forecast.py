"""The part of the report that says what was forecast before training and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.core import (
    MISSING,
    duration,
    figure,
    interval,
    level_name,
    multiple_in_interval,
    percent,
    scientific,
    short,
)
from tenfold.pages.forecast_charts import curve_picture, isoflop_picture, ladder_picture, residual_picture
from tenfold.pages.style import moment

Record = Mapping[str, Any]
SHOWN = "0.8"  # the interval written out; the others are drawn
EDGES = (14.0, 106.0)  # pixels of the widest interval's ends in a strip
STRIP = (3.0, 117.0)  # the outcome is held inside


# Tables


@dataclass(frozen=True)
class Strip:
    """Intervals of one quantity on a line: (start, width) in pixels, widest first; median and outcome."""

    bars: tuple[tuple[float, float], ...]
    median: float
    outcome: float | None


@dataclass(frozen=True)
class QuantityRow:
    """One quantity, forecast and measured."""

    name: str
    unit: str
    median: str
    interval: str
    outcome: str
    error: str
    verdict: str
    missed: bool
    strip: Strip


def quantity_row(quantity: Record) -> QuantityRow:
    """One row of the settled table."""
    low, high = quantity["intervals"][SHOWN]
    unit, outcome = quantity["unit"], quantity["outcome"]
    return QuantityRow(
        name=quantity["quantity"],
        unit="" if unit in quantity["quantity"] else unit,
        median=figure(quantity["median"], high - low, unit),
        interval=interval((low, high), unit),
        outcome="not measured yet" if outcome is None else figure(outcome, high - low, unit),
        error=MISSING if quantity["error"] is None else _sign(quantity) + percent(abs(quantity["error"])),
        verdict=inside_which(quantity),
        missed=quantity["inside"] == "outside",
        strip=_strip(quantity),
    )


def _sign(quantity: Record) -> str:
    return "+" if quantity["outcome"] > quantity["median"] else "−" if quantity["outcome"] < quantity["median"] else ""


def inside_which(quantity: Record) -> str:
    """inside 80%, outside 95%; empty before settlement."""
    if quantity["inside"] is None:
        return ""
    if quantity["inside"] == "outside":
        return f"outside {level_name(max(quantity['intervals'], key=float))}"
    return f"inside {level_name(quantity['inside'])}"


def _strip(quantity: Record) -> Strip:
    widest_first = [quantity["intervals"][level] for level in sorted(quantity["intervals"], key=float, reverse=True)]
    low, high = widest_first[0]

    def place(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return min(max(EDGES[0] + share * (EDGES[1] - EDGES[0]), STRIP[0]), STRIP[1])

    bars = tuple((place(start), place(end) - place(start)) for start, end in widest_first)
    outcome = quantity["outcome"]
    return Strip(bars, place(quantity["median"]), None if outcome is None else place(outcome))


@dataclass(frozen=True)
class LawCard:
    """The chosen form and the reasons; `errors` are (form, backtest error), `unused` (form, reason)."""

    form: str
    formula: str
    holdout: str
    fitted_on: str
    why: str
    errors: tuple[tuple[str, str], ...]
    unused: tuple[tuple[str, str], ...]
    members: tuple[str, ...]
    coefficients: tuple[tuple[str, str], ...]
    noise: str


def law_card(law: Record, holdout: str) -> LawCard:
    """What describe_law says, in words; the law is about the loss on `holdout`."""
    errors = law["backtest_error"]
    why = f"Of the forms tried it forecasts the ladder's own larger runs best, from {law['origins']} origins."
    return LawCard(
        form=law["form"],
        formula=law["formula"],
        holdout=holdout,
        fitted_on=law["fitted_on"],
        why=why if law["origins"] else "Too few runs to backtest; this form usually errs least.",
        errors=tuple((form, percent(error)) for form, error in errors.items()),
        unused=tuple(law["not_identified"].items()),
        members=tuple(law["members"]),
        coefficients=tuple((name, f"{value:.4g}") for name, value in law["coefficients"].items()),
        noise=percent(law["noise"]),
    )


@dataclass(frozen=True)
class OutlookRow:
    """What a size and an amount of data are expected to reach."""

    name: str
    parameters: str
    tokens: str
    loss: str
    interval: str


def outlook_rows(forecast: Record, loss: Record) -> list[OutlookRow]:
    """The target, the best split of its compute, and ten times the compute or data."""
    target = {**forecast["target"], "loss": loss["median"], "intervals": loss["intervals"]}
    named = {
        "this run": target,
        "its compute, split best": forecast["compute_optimal"],
        "10× the compute, split best": forecast["ten_times_compute"],
        "10× the data": forecast["ten_times_data"],
    }
    return [_outlook(name, record) for name, record in named.items() if record is not None]


def _outlook(name: str, record: Record) -> OutlookRow:
    low, high = record["intervals"][SHOWN]
    loss = figure(record["loss"], high - low)
    return OutlookRow(name, short(record["N"]), short(record["D"]), loss, interval((low, high)))


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; `summary` says what it is. Columns but the first are numbers."""

    summary: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def ladder_table(ladder: Record) -> Table | None:
    """Every run of the ladder: what it was, what it took and what it reached."""
    points: Sequence[Record] = ladder["points"]
    if not points:
        return None
    sizes, holdouts = {point["size"] for point in points}, list(dict.fromkeys(n for p in points for n in p["holdouts"]))
    head = ("run", "parameters", "tokens", "FLOPs", "steps", "learning rate", "time", f"{ladder['holdout']} loss")
    rows = tuple((*_rung_cells(p), *(figure(p["holdouts"].get(name), None) for name in holdouts)) for p in points)
    summary = f"Ladder: {len(points)} runs of {len(sizes)} sizes, {duration(ladder['seconds'])}"
    return Table(summary, (*head, *(f"{name} bits per byte" for name in holdouts)), rows)


def _rung_cells(point: Record) -> tuple[str, ...]:
    return (
        point["name"],
        short(point["N"]),
        short(point["D"]),
        scientific(point["C"]),
        f"{point['steps']:,}",
        f"{point['learning_rate']:.3g}",
        duration(point["seconds"]),
        figure(point["loss"], None),
    )


@dataclass(frozen=True)
class Transfer:
    """Whether one learning rate serves all sizes; the lowest loss of each size is at the same (row, column)."""

    text: str
    holds: bool
    sizes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    lowest: frozenset[tuple[int, int]]
    optima: tuple[str, ...]


def transfer_table(transfer: Record) -> Transfer:
    """Loss by multiple of the learning rate (down) and size (across)."""
    sizes: Sequence[Record] = transfer["sizes"]
    factors = sorted({factor for size in sizes for factor in size["factors"]})
    columns = [dict(zip(size["factors"], size["losses"], strict=True)) for size in sizes]
    best = [_lowest(column) for column in columns]
    return Transfer(
        text=transfer["text"],
        holds=transfer["holds"],
        sizes=tuple(size["size"] for size in sizes),
        rows=tuple((f"{f:g}×", tuple(figure(column.get(f), None) for column in columns)) for f in factors),
        lowest=frozenset((factors.index(f), number) for number, f in enumerate(best) if f is not None),
        optima=tuple(MISSING if size["optimum"] is None else f"{size['optimum']:.2f}×" for size in sizes),
    )


def _lowest(losses: Mapping[float, float | None]) -> float | None:
    """The factor with the lowest loss; a run that diverged has none."""
    known = {factor: loss for factor, loss in losses.items() if loss is not None}
    return min(known, key=lambda factor: known[factor]) if known else None


# The section


@dataclass(frozen=True)
class ForecastPage:
    """What the template shows; None or empty where there is nothing to show."""

    lead: str
    registered: str
    digest: str | None
    quantities: tuple[QuantityRow, ...]
    charts: Mapping[str, Markup]
    tracking: str
    left_the_band: tuple[str, ...]
    law: LawCard | None
    outlook: tuple[OutlookRow, ...]
    effective: str
    ladder: Table | None
    transfer: Transfer | None
    settled: str
    calibration: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def forecast_page(report: Record) -> ForecastPage | None:
    """From the keys ladder, forecast and calibration of report.json; None where all are null or absent."""
    ladder, forecast, calibration = (report.get(key) for key in ("ladder", "forecast", "calibration"))
    calibration = calibration if calibration and calibration["settled"] else None
    if ladder is None and forecast is None and calibration is None:
        return None
    loss = main_quantity(ladder, forecast)
    tracking = forecast["tracking"] if forecast and forecast["live"] else None
    return ForecastPage(
        lead=lead_of(forecast, loss),
        registered=registration(forecast, report["run"]["started_at"]) if forecast else "",
        digest=forecast["digest"] if forecast else None,
        quantities=tuple(quantity_row(quantity) for quantity in forecast["quantities"]) if forecast else (),
        charts=_charts(ladder, forecast, loss),
        tracking=_tracking(tracking) if tracking else "",
        left_the_band=tuple(tracking["events"]) if tracking else (),
        law=law_card(ladder["law"], ladder["holdout"]) if ladder and ladder["law"] else None,
        outlook=tuple(outlook_rows(forecast, loss)) if forecast and loss else (),
        effective=_effective(forecast["effective"]) if forecast and forecast["effective"] else "",
        ladder=ladder_table(ladder) if ladder else None,
        transfer=transfer_table(ladder["transfer"]) if ladder and ladder["transfer"] else None,
        settled=_settled(calibration) if calibration else "",
        calibration=tuple((level_name(k), percent(v)) for k, v in calibration["inside"].items()) if calibration else (),
        notes=tuple(forecast["notes"]) if forecast else (),
    )


def main_quantity(ladder: Record | None, forecast: Record | None) -> Record | None:
    """The quantity that the law is about: the loss on the ladder's holdout, or the first one without a ladder."""
    quantities: Sequence[Record] = forecast["quantities"] if forecast else []
    named = [q for q in quantities if ladder and q["quantity"] == f"{ladder['holdout']} loss"]
    return next(iter([*named, *quantities]), None)


def lead_of(forecast: Record | None, loss: Record | None) -> str:
    """What was forecast and what came of it, in one sentence."""
    if forecast is None or loss is None:
        return "Nothing was forecast for this run."
    low, high = loss["intervals"][SHOWN]
    start = (
        "Computed after training, so this is no forecast" if forecast["trained_before"] else "Forecast before training"
    )
    name, unit = loss["quantity"], loss["unit"]
    value = figure(loss["median"], high - low, unit)
    said = f"{start}: {name} {value} {unit}, {level_name(SHOWN)} interval {interval((low, high), unit)}"
    return f"{said}; {_outcome(loss, high - low)}."


def _outcome(loss: Record, width: float) -> str:
    if loss["outcome"] is None:
        return "not measured yet"
    measured = f"measured {figure(loss['outcome'], width, loss['unit'])}"
    widest = max(loss["intervals"], key=float)
    where = (
        f"outside the {level_name(widest)}"
        if loss["inside"] == "outside"
        else f"inside the {level_name(loss['inside'])}"
    )
    return f"{measured}: {percent(abs(loss['error']))} off, {where} interval"


def registration(forecast: Record, started_at: float | None) -> str:
    """When the forecast was written down, and how long before training began."""
    at: float = forecast["registered_at"]
    if forecast["trained_before"] or started_at is None or started_at < at:
        return f"Registered {moment(at)}."
    return f"Registered {moment(at)}, {duration(started_at - at)} before training began."


def _charts(ladder: Record | None, forecast: Record | None, loss: Record | None) -> dict[str, Markup]:
    """By name, those that have something to draw."""
    drawn = {
        "ladder": ladder_picture(ladder, forecast, loss) if ladder else None,
        "curve": curve_picture(forecast) if forecast else None,
        "residuals": residual_picture(ladder["residuals"]) if ladder else None,
        "isoflop": isoflop_picture(ladder["profiles"]) if ladder else None,
    }
    return {name: chart for name, chart in drawn.items() if chart is not None}


def _tracking(tracking: Record) -> str:
    """Where the live curve is."""
    if tracking["side"] == "before":
        return "The run is still warming up: the band begins where the learning rate is at its peak."
    level, count = level_name(tracking["level"]), tracking["count"]
    since = f"where it has been for {count} measurements" if count > 1 else "where it was not before"
    return f"The loss ends {tracking['side']} the {level} band, {since}."


def _effective(effective: Record) -> str:
    """How many times its own compute and data the run is worth."""
    compute, data = (multiple_in_interval(effective[name]) for name in ("compute", "data"))
    return (
        f"By the loss it reached, this run is worth {compute} its compute and {data} its data "
        f"in the recipe of the ladder ({level_name(effective['compute']['level'])} intervals)."
    )


def _settled(calibration: Record) -> str:
    """How many forecasts were settled and how far they were off."""
    count, error = calibration["settled"], percent(calibration["mean_error"])
    return f"{count} forecast{'s' if count > 1 else ''} settled so far, on average {error} off."
