"""The page in a terminal: loss in its band, learners, incidents, the log. Needs textual (extra `tui`)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Static

from tenfold.core import clock, duration, short
from tenfold.ledger import LOSS, TOKENS_PER_SECOND
from tenfold.monitor.page.app import newest
from tenfold.monitor.page.curve import LiveCurve
from tenfold.monitor.page.decimate import means, thin
from tenfold.monitor.page.source import LedgerWatch

Record = dict[str, Any]
EVERY_S = 1.0
ROWS = 14  # of the loss
AXIS = 9  # columns for its labels
IN_BAND = "on #16304f"
MOST_LINES = 200  # of the log
FIRST_SHARE = 20  # the first twentieth does not stretch the axis


def loss_plot(curve: LiveCurve, forecast: Record | None, width: int, rows: int = ROWS) -> Text:
    """The loss as `rows` lines of text: │ from lowest to highest of a column, ● the mean, ░ the forecast's widest band.

    What lies beyond the axis, which fits means and band, is ▲ in the first line.
    """
    columns = max(width - AXIS, 10)
    high = max(curve.last, columns)
    seen = thin(curve.steps, curve.values, 0, high, columns)
    mean = means(curve.steps, curve.values, 0, high, columns)
    if not len(mean.values):
        return Text("no loss yet")
    late = mean.values[mean.steps >= high // FIRST_SHARE] if len(mean.values) > FIRST_SHARE else mean.values
    band = _band(forecast, np.linspace(0, high, columns))
    edges = [edge[np.isfinite(edge)][columns // FIRST_SHARE :] for edge in band]
    shown = np.concatenate([late, *edges])
    low, top = float(shown.min()), float(shown.max())
    margin = 0.15 * (top - low) or 0.1
    low, top = low - margin, top + margin
    grid = [[(" ", "")] * columns for _ in range(rows)]
    _fill(grid, band, low, top)
    _strokes(grid, seen.steps * columns // (high + 1), seen.values, low, top)
    for column, value in zip(mean.steps * columns // (high + 1), mean.values, strict=True):
        if low <= value <= top:
            _put(grid, _row(value, low, top, rows), column, "●", "bold #6ea8e6")
    return _text(grid, low, top, high)


def _band(forecast: Record | None, steps: Any) -> tuple[Any, Any]:
    """Low and high of the widest band at `steps`; NaN where it says nothing."""
    curve = forecast and forecast["curve"]
    if not curve:
        return np.full(len(steps), np.nan), np.full(len(steps), np.nan)
    widest = max(curve["bands"], key=lambda band: float(band["level"]))
    outside = (steps < curve["steps"][0]) | (steps > curve["steps"][-1])
    edges = [np.where(outside, np.nan, np.interp(steps, curve["steps"], widest[edge])) for edge in ("low", "high")]
    return edges[0], edges[1]


def _row(value: float, low: float, top: float, rows: int) -> int:
    return min(max(round((top - value) / (top - low) * (rows - 1)), 0), rows - 1)


def _fill(grid: list[list[tuple[str, str]]], band: tuple[Any, Any], low: float, top: float) -> None:
    for column, (begin, end) in enumerate(zip(*band, strict=True)):
        if np.isfinite(begin) and end >= low and begin <= top:
            for row in range(_row(end, low, top, len(grid)), _row(begin, low, top, len(grid)) + 1):
                grid[row][column] = ("░", f"#4a6a8f {IN_BAND}")


def _strokes(grid: list[list[tuple[str, str]]], columns: Any, values: Any, low: float, top: float) -> None:
    for column in np.unique(columns):
        here = values[columns == column]
        if here.min() <= top:
            for row in range(_row(here.max(), low, top, len(grid)), _row(here.min(), low, top, len(grid)) + 1):
                _put(grid, row, column, "│", "#97a4b1")
        if here.max() > top:
            grid[0][column] = ("▲", "yellow")


def _put(grid: list[list[tuple[str, str]]], row: int, column: int, sign: str, style: str) -> None:
    """A sign over what is there: inside of the band its ground stays."""
    ground = IN_BAND if IN_BAND in grid[row][column][1] else ""
    grid[row][column] = (sign, f"{style} {ground}".strip())


def _text(grid: list[list[tuple[str, str]]], low: float, top: float, high: int) -> Text:
    text = Text(no_wrap=True)
    for number, row in enumerate(grid):
        value = top - (top - low) * number / (len(grid) - 1)
        text.append(f"{short(value):>{AXIS - 2}} │" if number % 4 == 0 else " " * (AXIS - 1) + "│", "bright_black")
        for sign, style in row:
            text.append(sign, style)
        text.append("\n")
    end = short(high)
    text.append(" " * AXIS + "0" + " " * max(len(grid[0]) - 1 - len(end), 1) + end, "bright_black")
    return text


def head_line(run: Record, rate: LiveCurve) -> Text:
    """Run, status, how far it is, how fast, and how many incidents are open."""
    elapsed = (run["finished_at"] or time.time()) - run["started_at"]
    total = f" of {run['steps']:,}" if run["steps"] else ""
    still_open = sum(incident["state"] != "closed" for incident in run["incidents"])
    text = Text(f"{run['where']} · {run['name']}", "bold")
    text.append(
        f"  {run['status']} after {duration(elapsed)} · step {max(run['last'], 0):,}{total}", "default not bold"
    )
    if len(rate):
        text.append(f" · {short(float(rate.values[-1]))} tokens/s", "default not bold")
    text.append(f" · {still_open} incidents open", "bold yellow" if still_open else "green")
    return text


class TerminalPage(App[None]):
    """Polls its ledgers every second in its own thread: reads are short, and nothing else waits."""

    CSS = (
        "#loss {height: auto; border: round $primary;} #tables {height: auto; max-height: 40%;} "
        "#incidents {width: 2fr;} #log {height: 1fr;}"
    )
    BINDINGS: ClassVar[list[Any]] = [("q", "quit", "Quit"), ("n", "next_run", "Next run")]

    def __init__(self, campaigns: Sequence[Path]) -> None:
        """Open them. Raises InputError and TenfoldError as LedgerWatch does."""
        super().__init__()
        self._sources = [LedgerWatch(number, campaign) for number, campaign in enumerate(campaigns)]
        for source in self._sources:
            source.poll()
        self._shown = newest([source.record for source in self._sources])

    def compose(self) -> ComposeResult:
        """Head, loss, learners and incidents side by side, log, keys."""
        yield Static(id="head")
        yield Static(id="loss")
        with Horizontal(id="tables"):
            yield DataTable(id="learners", cursor_type="none")
            yield DataTable(id="incidents", cursor_type="row")
        with VerticalScroll(id="log"):
            yield Static(id="lines")
        yield Footer()

    def on_mount(self) -> None:
        """Name the columns and begin to look."""
        self.query_one("#learners", DataTable).add_columns("learner", "state", "lives", "strikes")
        self.query_one("#incidents", DataTable).add_columns("incident", "severity", "state", "step", "what to do")
        self.refresh_all()
        self.set_interval(EVERY_S, self.refresh_all)

    def on_unmount(self) -> None:
        """Close the ledgers."""
        for source in self._sources:
            source.close()

    def action_next_run(self) -> None:
        """Show the run after this one, of all campaigns."""
        runs = [(source.number, run_id) for source in self._sources for run_id in source.runs]
        if runs:
            self._shown = runs[(runs.index(self._shown) + 1) % len(runs)] if self._shown in runs else runs[0]
            self.refresh_all()

    def refresh_all(self) -> None:
        """Take what is new and draw it; trouble is a line in the head."""
        for source in self._sources:
            source.poll()
        trouble = [source.trouble for source in self._sources if source.trouble]
        self._shown = self._shown or newest([source.record for source in self._sources])
        if trouble or self._shown is None:
            self.query_one("#head", Static).update(Text("\n".join(trouble) or "no run yet", "bold yellow"))
            return
        source, run_id = self._sources[self._shown[0]], self._shown[1]
        self._draw(source, run_id, source.details(run_id))

    def _draw(self, source: LedgerWatch, run_id: int, run: Record) -> None:
        rate = source.curve(run_id, TOKENS_PER_SECOND)
        self.query_one("#head", Static).update(head_line(run, rate))
        plot = loss_plot(source.curve(run_id, LOSS), run["forecast"], max(self.size.width - 4, 20))
        self.query_one("#loss", Static).update(plot)
        self._rows("#learners", [(e["name"], e["state"], str(e["lives"]), str(e["strikes"])) for e in run["learners"]])
        newest_first = sorted(run["incidents"], key=lambda each: (each["state"] == "closed", -each["opened_at"]))
        self._rows(
            "#incidents",
            [(i["kind"], str(i["severity"]), str(i["state"]), f"{i['step']:,}", i["action"]) for i in newest_first],
        )
        begun = run["started_at"]
        lines = [f"{clock(max(e['at'] - begun, 0)):>8}  {e['message']}" for e in run["events"][-MOST_LINES:][::-1]]
        self.query_one("#lines", Static).update(Text("\n".join(lines)))

    def _rows(self, where: str, rows: Sequence[tuple[str, ...]]) -> None:
        table = self.query_one(where, DataTable)
        if [tuple(map(str, table.get_row_at(number))) for number in range(table.row_count)] != list(rows):
            table.clear()
            table.add_rows([[Text(cell) for cell in row] for row in rows])


def watch_in_terminal(campaigns: Sequence[Path]) -> None:
    """Show these campaigns in this terminal until q."""
    TerminalPage(campaigns).run()
