"""Charts of a run of several learners: who did what when, who was in each merge, who trained how fast."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tenfold.core import clock
from tenfold.pages.charts import FULL_WIDTH, LEFT, LETTER, LOW, RIGHT, WIDTH, Axis, Chart, Paint, plot, rows
from tenfold.pages.style import BLUE, COLOURS, GOLD, GREEN, INK, ORANGE, PURPLE, SOFT

Record = Mapping[str, Any]
SYNCER = "syncer"
PITCH = 40  # height of a row of the timeline
MOST_NAMES = 5  # learners named beside their areas; a page has as many colours
STATES = {
    # state: (colour, half its height in pixels, what it is called)
    "training": (BLUE, 8.0, "training"),
    "healing": (GOLD, 5.6, "taking over the state"),
    "frozen": (PURPLE, 4.8, "frozen or hung"),
    "out": (ORANGE, 2.4, "dead or given up"),
}
UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def time_unit(seconds: float) -> tuple[float, str]:
    """Seconds in a unit of the time axis, and its name, for a run this long."""
    return next((size, name) for least, size, name in UNITS if seconds >= least)


def timeline_picture(processes: Sequence[Record], seconds: float, pauses: Sequence[Record]) -> Markup:
    """One row for each process: its states, faults, and when it trained again."""
    size, unit = time_unit(seconds)
    left = 24 + max(len(process["name"]) for process in processes) * LETTER
    x = Axis(0.0, seconds / size, left, FULL_WIDTH - RIGHT)
    chart = rows(x, len(processes), PITCH, _timeline_entries(processes), width=FULL_WIDTH)
    for pause in pauses:
        chart.cut(pause["at"] / size, chart.y.start, chart.y.end, SOFT, 1.2, dash="3 4")
    for number, process in enumerate(processes):
        _draw_process(chart, process, chart.y.place(number + 0.6), size)
    return chart.render(unit, x_ticks=10, title=_timeline_title(processes))


def _timeline_entries(processes: Sequence[Record]) -> dict[str, Paint]:
    """Only what there is to see."""
    seen = {span["state"] for process in processes for span in process["spans"]}
    entries = {name: Paint(colour) for state, (colour, _, name) in STATES.items() if state in seen}
    if any(process["disturbances"] for process in processes):
        entries["slowed or its line disturbed"] = Paint(INK)
    return entries | ({"trains again": Paint(GREEN)} if any(_healed(process) for process in processes) else {})


def _timeline_title(processes: Sequence[Record]) -> str:
    """For those who cannot see it: when each process was not at work."""
    told = []
    for process in processes:
        pauses = [_said(process, span) for span in process["spans"] if span["state"] != "training"]
        told.append(f"{process['name']}: {', '.join(pauses) or 'at work throughout'}")
    return f"What each process did when. {'; '.join(told)}."


def _said(process: Record, span: Record) -> str:
    syncer = process["name"].partition("-")[0] == SYNCER
    state = "serving" if syncer and span["state"] == "training" else STATES[span["state"]][2]
    return f"{state} {clock(span['begin'])} to {clock(span['end'])}"


def _healed(process: Record) -> list[Record]:
    return [mark for mark in process["marks"] if mark["kind"] == "healed"]


def _draw_process(chart: Chart, process: Record, middle: float, size: float) -> None:
    """States are told apart by height as well as by colour."""
    for span in process["spans"]:
        colour, half, _ = STATES[span["state"]]
        title = f"{process['name']}: {_said(process, span)}"
        chart.box(span["begin"] / size, span["end"] / size, middle - half, 2 * half, Paint(colour, 0.75), title)
    for disturbance in process["disturbances"]:
        chart.box(disturbance["begin"] / size, disturbance["end"] / size, middle + 9.5, 2, Paint(INK))
    chart.write(chart.x.start - 10, middle + 4, process["name"], INK, "end")
    _draw_faults(chart, [mark for mark in process["marks"] if mark["kind"] in ("fault", "quarantined")], middle, size)
    at = (middle - chart.y.start) / PITCH
    for mark in _healed(process):
        chart.dot(mark["at"] / size, at, GREEN, radius=4.5, title=f"{clock(mark['at'])} {mark['text']}")


def _draw_faults(chart: Chart, marks: Sequence[Record], middle: float, size: float) -> None:
    """A stroke each; its name above as long as it does not run into the one before."""
    free = 0.0
    for mark in marks:
        chart.cut(mark["at"] / size, middle - 13, middle + 11, ORANGE, 1.8)
        name = "quarantined" if mark["kind"] == "quarantined" else mark["text"]
        width = len(name) * LETTER
        pixel = min(max(chart.x.place(mark["at"] / size), chart.x.start + width / 2), chart.x.end - width / 2)
        if pixel - width / 2 >= free:
            chart.write(pixel, middle - 16, name, ORANGE, "middle")
            free = pixel + width / 2 + 6


def participation_picture(shares: Sequence[float | None], seconds: float) -> Markup:
    """Mean share of the learners at work that were in a merge, over the run; nothing where nothing was merged."""
    size, unit = time_unit(seconds)
    chart = plot(_over_time(seconds / size), 0.0, 100.0, height=LOW)
    width = seconds / size / len(shares)
    for number, share in enumerate(shares):
        if share is not None:
            xs = (number * width, (number + 1) * width)
            chart.band(xs, [0, 0], [100 * share] * 2, Paint(BLUE, 0.35), f"{share:.0%}")
            chart.line([(x, 100 * share) for x in xs], BLUE, width=2)
    return chart.render(unit, "% of the learners at work")


def rate_picture(rates: Mapping[str, Sequence[float]], seconds: float) -> Markup:
    """Tokens per second over the run, one area on top of the other."""
    size, unit = time_unit(seconds)
    bins = len(next(iter(rates.values())))
    totals = [sum(rate[number] for rate in rates.values()) for number in range(bins)]
    paints = {name: Paint(COLOURS[number % len(COLOURS)], 0.6) for number, name in enumerate(rates)}
    shown = paints if len(paints) <= MOST_NAMES else {}
    chart = plot(_over_time(seconds / size), 0.0, 1.08 * max(totals) or 1.0, shown, height=LOW)
    xs = [(number + step) * seconds / size / bins for number in range(bins) for step in (0, 1)]
    lows = [0.0] * len(xs)
    for name, rate in rates.items():
        highs = [low + value for low, value in zip(lows, _stepped(rate), strict=True)]
        chart.band(xs, lows, highs, paints[name], name)
        lows = highs
    chart.line(list(zip(xs, lows, strict=True)), INK, width=1.2)
    return chart.render(unit, "tokens per second")


def _over_time(end: float) -> Axis:
    return Axis(0.0, end, LEFT, WIDTH - RIGHT)


def _stepped(values: Sequence[float]) -> list[float]:
    """Each value twice: at the beginning and at the end of its part."""
    return [value for value in values for _ in range(2)]
