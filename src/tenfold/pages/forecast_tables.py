"""Tables of the forecast as text: what was forecast and measured, the law, the ladder, the transfer check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenfold.core.text import duration
from tenfold.pages.charts import short_number
from tenfold.pages.figures import MISSING, figure, interval, level_name, percent
from tenfold.pages.scaling_charts import scientific

Record = Mapping[str, Any]
SHOWN = "0.8"  # the interval written out; the others are drawn
EDGES = (14.0, 106.0)  # pixels of the widest interval's ends in a strip
STRIP = (3.0, 117.0)  # the outcome is held inside


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
        why=why if errors else "Too few runs to backtest; this is the simplest form.",
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
    return OutlookRow(name, short_number(record["N"]), short_number(record["D"]), loss, interval((low, high)))


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
        short_number(point["N"]),
        short_number(point["D"]),
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
