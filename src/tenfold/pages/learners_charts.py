"""Pictures of a run of several learners: who did what when, who was in each merge, who trained how fast."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tenfold.learners.history import is_syncer
from tenfold.pages.marks import INK, LEFT, LETTER, RIGHT, SOFT, TOP, WIDTH, Axis, Chart, Word
from tenfold.pages.scaling_charts import BLUE, COLOURS, GOLD, GREEN, ORANGE, PURPLE

Record = Mapping[str, Any]
FULL_WIDTH = 1040  # of a picture as wide as the page
TIMELINE_TOP, PITCH, FOOT, HEIGHT = 30, 40, 42, 260
MOST_NAMES = 5  # learners named beside their areas; a page has as many colours
STATES = {
    # state: (colour, half its height in rows, what it is called)
    "training": (BLUE, 0.2, "training"),
    "healing": (GOLD, 0.14, "taking over the state"),
    "frozen": (PURPLE, 0.12, "frozen or hung"),
    "out": (ORANGE, 0.06, "dead or given up"),
}
UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def time_unit(seconds: float) -> tuple[float, str]:
    """Seconds in a unit of the time axis, and its name, for a run this long."""
    return next((size, name) for least, size, name in UNITS if seconds >= least)


def clock_text(seconds: float) -> str:
    """31.4 → 0:31, 3671 → 1:01:11."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def timeline_picture(rows: Sequence[Record], seconds: float, pauses: Sequence[Record]) -> Markup:
    """One row for each process: its states, faults, and when it trained again."""
    size, unit = time_unit(seconds)
    bottom = TIMELINE_TOP + PITCH * len(rows)
    left = 24 + max(len(row["name"]) for row in rows) * LETTER
    x = Axis(0.0, seconds / size, left, FULL_WIDTH - RIGHT)
    chart = Chart(x, Axis(0.0, float(len(rows)), float(bottom), float(TIMELINE_TOP)), bottom + FOOT, FULL_WIDTH)
    for pause in pauses:
        chart.line([(pause["at"] / size, 0), (pause["at"] / size, len(rows))], SOFT, width=1.2, dash="3 4")
    for number, row in enumerate(rows):
        _draw_row(chart, row, len(rows) - number - 0.6, size)
    chart.legend(_timeline_legend(rows))
    return chart.render(unit, "", x_ticks=10, y_ticks=0, title=_timeline_title(rows))


def _timeline_legend(rows: Sequence[Record]) -> list[tuple[str, str]]:
    """Only what there is to see."""
    seen = {span["state"] for row in rows for span in row["spans"]}
    entries = [(name, colour) for state, (colour, _, name) in STATES.items() if state in seen]
    if any(row["disturbances"] for row in rows):
        entries.append(("slowed or its line disturbed", INK))
    return entries + ([("trains again", GREEN)] if any(_healed(row) for row in rows) else [])


def _timeline_title(rows: Sequence[Record]) -> str:
    """For those who cannot see it: when each process was not at work."""
    told = []
    for row in rows:
        pauses = [_said(row, span) for span in row["spans"] if span["state"] != "training"]
        told.append(f"{row['name']}: {', '.join(pauses) or 'at work throughout'}")
    return f"What each process did when. {'; '.join(told)}."


def _said(row: Record, span: Record) -> str:
    state = "serving" if is_syncer(row["name"]) and span["state"] == "training" else STATES[span["state"]][2]
    return f"{state} {clock_text(span['begin'])} to {clock_text(span['end'])}"


def _healed(row: Record) -> list[Record]:
    return [mark for mark in row["marks"] if mark["kind"] == "healed"]


def _draw_row(chart: Chart, row: Record, at: float, size: float) -> None:
    """States are told apart by height as well as by colour."""
    for span in row["spans"]:
        colour, half, _ = STATES[span["state"]]
        title = f"{row['name']}: {_said(row, span)}"
        xs = (span["begin"] / size, span["end"] / size)
        chart.band(xs, [at - half] * 2, [at + half] * 2, colour, 0.75, title)
    for disturbance in row["disturbances"]:
        low = at - STATES["training"][1] - 0.06
        chart.line([(disturbance["begin"] / size, low), (disturbance["end"] / size, low)], INK, width=2)
    chart.words.append(Word(chart.x.start - 10, chart.y.place(at) + 4, row["name"], INK, "end"))
    _draw_faults(chart, [mark for mark in row["marks"] if mark["kind"] in ("fault", "quarantined")], at, size)
    for mark in _healed(row):
        chart.dot(mark["at"] / size, at, GREEN, radius=4.5, title=f"{clock_text(mark['at'])} {mark['text']}")


def _draw_faults(chart: Chart, marks: Sequence[Record], at: float, size: float) -> None:
    """A stroke each; its name above as long as it does not run into the one before."""
    free = 0.0
    for mark in marks:
        x = mark["at"] / size
        chart.line([(x, at - 0.28), (x, at + 0.32)], ORANGE, width=1.8)
        name = "quarantined" if mark["kind"] == "quarantined" else mark["text"]
        width = len(name) * LETTER
        pixel = min(max(chart.x.place(x), chart.x.start + width / 2), chart.x.end - width / 2)
        if pixel - width / 2 >= free:
            chart.words.append(Word(pixel, chart.y.place(at + 0.32) - 3, name, ORANGE, "middle"))
            free = pixel + width / 2 + 6


def participation_picture(shares: Sequence[float | None], seconds: float) -> Markup:
    """Mean share of the learners at work that were in a merge, over the run; nothing where nothing was merged."""
    size, unit = time_unit(seconds)
    chart = _over_time(seconds / size, Axis(0.0, 100.0, HEIGHT - FOOT, TOP))
    width = seconds / size / len(shares)
    for number, share in enumerate(shares):
        if share is not None:
            xs = (number * width, (number + 1) * width)
            chart.band(xs, [0, 0], [100 * share] * 2, BLUE, 0.35, f"{share:.0%}")
            chart.line([(x, 100 * share) for x in xs], BLUE, width=2)
    return chart.render(unit, "% of the learners at work")


def rate_picture(rates: Mapping[str, Sequence[float]], seconds: float) -> Markup:
    """Tokens per second over the run, one area on top of the other."""
    size, unit = time_unit(seconds)
    bins = len(next(iter(rates.values())))
    totals = [sum(rate[number] for rate in rates.values()) for number in range(bins)]
    chart = _over_time(seconds / size, Axis(0.0, 1.08 * max(totals) or 1.0, HEIGHT - FOOT, TOP))
    xs = [(number + step) * seconds / size / bins for number in range(bins) for step in (0, 1)]
    lows = [0.0] * len(xs)
    for number, (name, rate) in enumerate(rates.items()):
        highs = [low + value for low, value in zip(lows, _stepped(rate), strict=True)]
        chart.band(xs, lows, highs, COLOURS[number % len(COLOURS)], 0.6, name)
        lows = highs
    chart.line(list(zip(xs, lows, strict=True)), INK, width=1.2)
    if len(rates) <= MOST_NAMES:
        chart.legend([(name, COLOURS[number]) for number, name in enumerate(rates)])
    return chart.render(unit, "tokens per second")


def _over_time(end: float, y: Axis) -> Chart:
    return Chart(Axis(0.0, end, LEFT, WIDTH - RIGHT), y, HEIGHT)


def _stepped(values: Sequence[float]) -> list[float]:
    """Each value twice: at the beginning and at the end of its part."""
    return [value for value in values for _ in range(2)]
