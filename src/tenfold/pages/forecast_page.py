"""The part of the report that says what was forecast before training and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.core.text import duration
from tenfold.pages.charts import moment
from tenfold.pages.figures import figure, interval, level_name, percent, times
from tenfold.pages.forecast_charts import curve_picture, isoflop_picture, ladder_picture, residual_picture
from tenfold.pages.forecast_tables import (
    SHOWN,
    LawCard,
    OutlookRow,
    QuantityRow,
    Table,
    Transfer,
    ladder_table,
    law_card,
    outlook_rows,
    quantity_row,
    transfer_table,
)

Record = Mapping[str, Any]


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
    compute, data = effective["compute"], effective["data"]
    levels = level_name(compute["level"])
    return (
        f"By the loss it reached, this run is worth {times(compute)} its compute and {times(data)} its data "
        f"in the recipe of the ladder ({levels} intervals)."
    )


def _settled(calibration: Record) -> str:
    """How many forecasts were settled and how far they were off."""
    count, error = calibration["settled"], percent(calibration["mean_error"])
    return f"{count} forecast{'s' if count > 1 else ''} settled so far, on average {error} off."
