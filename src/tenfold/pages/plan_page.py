"""The plan for people: the section that the report shows, and a page of its own that opens offline."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.core import amount_in_words, short
from tenfold.pages.charts import Paint
from tenfold.pages.plan import MOST_MEASURED, Asked, Plan, Planned
from tenfold.pages.plan_charts import Bar, bars_picture, fleet_picture, front_picture, tornado_picture
from tenfold.pages.style import BLUE, GOLD, GREEN, ORANGE, PURPLE, SOFT, template_environment

MOST_BARS = 5
"""Layouts that the pictures show; the table has all."""
GIGA = 1e9
TIME_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("matrix products", Paint(BLUE, 0.95), ("matmul",)),
    ("attention", Paint(BLUE, 0.62), ("attention",)),
    ("other computing", Paint(BLUE, 0.3), ("elementwise", "head", "optimizer")),
    ("tensor and context parallel", Paint(ORANGE, 0.9), ("tensor", "context")),
    ("expert parallel", Paint(ORANGE, 0.5), ("expert",)),
    ("data parallel", Paint(GOLD, 0.9), ("data", "shard")),
    ("pipeline bubble", Paint(PURPLE, 0.9), ("bubble",)),
    ("pipeline sends", Paint(PURPLE, 0.5), ("pipeline",)),
    ("stragglers", Paint(SOFT, 0.75), ("scale",)),
    ("host", Paint(SOFT, 0.4), ("launch", "fixed")),
)
"""Name, paint and parts of StepTime. Computing is blue, communication orange and gold, waiting purple and grey."""

MEMORY_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("weights", Paint(BLUE, 0.95), ("weights",)),
    ("gradients", Paint(BLUE, 0.62), ("gradients",)),
    ("optimizer", Paint(BLUE, 0.3), ("optimizer",)),
    ("activations", Paint(GREEN, 0.9), ("activations",)),
    ("logits", Paint(GREEN, 0.5), ("logits",)),
    ("buffers", Paint(SOFT, 0.5), ("buffers",)),
)
"""Name, paint and parts of Memory."""

TIME_PAINTS = {name: paint for name, paint, _ in TIME_GROUPS}
MEMORY_PAINTS = {name: paint for name, paint, _ in MEMORY_GROUPS}


@dataclass(frozen=True)
class Figure:
    """One picture with its heading and a sentence on how to read it; `name` is its file's without an ending."""

    name: str
    heading: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class LayoutRow:
    """One line of the table, as words."""

    degrees: tuple[int, ...]
    schedule: str
    micro_batch: int
    recomputation: str
    sharding: str
    seconds: str
    interval: str
    tokens_per_second: str
    mfu: str
    memory: str
    fits: str
    extrapolation: bool


@dataclass(frozen=True)
class PlanSection:
    """What the template shows."""

    question: str
    rows: tuple[LayoutRow, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


def plan_page(plan: Plan) -> str:
    """One HTML file with the question, the table and every picture there is data for."""
    page = template_environment().get_template("plan.html.jinja")
    return page.render(title=f"{plan.asked.model} on {plan.asked.cluster}", plan=section_of(plan))


def plan_section(report: Mapping[str, Any]) -> PlanSection | None:
    """From the key layout_plan of report.json; None where there is none."""
    record = report.get("layout_plan")
    return section_of(Plan.from_dict(record)) if record else None


def section_of(plan: Plan) -> PlanSection:
    """Table and pictures."""
    return PlanSection(
        question=question_text(plan.asked),
        rows=tuple(_row(layout) for layout in plan.layouts),
        figures=plan_figures(plan),
        notes=plan.notes,
    )


def plan_figures(plan: Plan) -> tuple[Figure, ...]:
    """The pictures there is data for, in the order in which they are read."""
    drawn = [draw(plan) for draw in _FIGURES]
    return tuple(figure for figure in drawn if figure is not None)


def question_text(asked: Asked) -> str:
    """One sentence: which model, which batch, which machine."""
    parameters, tokens = amount_in_words(asked.parameters), amount_in_words(asked.sequences * asked.context)
    return (
        f"How should {asked.model} ({parameters} parameters, context {asked.context:,}) be laid out "
        f"over {asked.devices:,} × {asked.accelerator} ({asked.memory_bytes / GIGA:.4g} GB each) with "
        f"{asked.sequences:,} sequences ({tokens} tokens) in a step, in {asked.precision}?"
    )


def _row(layout: Planned) -> LayoutRow:
    return LayoutRow(
        degrees=(layout.tensor, layout.context, layout.pipeline, layout.data, layout.expert),
        schedule=schedule_text(layout),
        micro_batch=layout.micro_batch,
        recomputation=layout.recomputation,
        sharding=sharding_text(layout) if layout.sharding else "none",
        seconds=seconds_text(layout.seconds),
        interval=f"{seconds_text(layout.low)} to {seconds_text(layout.high)}",
        tokens_per_second=f"{layout.tokens_per_second:,.0f}",
        mfu=f"{100 * layout.mfu:.1f}%",
        memory=f"{layout.memory_bytes / GIGA:.1f}",
        fits=f"{layout.chance_to_fit:.0%}",
        extrapolation=layout.extrapolation,
    )


def _time_figure(plan: Plan) -> Figure:
    svg = bars_picture(time_bars(plan.layouts[:MOST_BARS]), TIME_PAINTS, "seconds of one step")
    caption = "The line below a bar is the 90% interval of the step time. Point at a part for its seconds."
    return Figure("step-time", "Where a step's time goes", svg, caption)


def _memory_figure(plan: Plan) -> Figure:
    limit = plan.asked.memory_bytes / GIGA
    svg = bars_picture(
        memory_bars(plan.layouts[:MOST_BARS]),
        MEMORY_PAINTS,
        "GB on the fullest device",
        limits={f"all of the device: {limit:.4g} GB": limit},
    )
    return Figure("memory", "Where memory goes", svg, "Peak of the fullest device, by part.")


def _front_figure(plan: Plan) -> Figure | None:
    if plan.front is None or not plan.front.points:
        return None
    x, y = plan.front.x_label.partition(",")[0], plan.front.y_label.partition(",")[0]
    caption = f"What is on the front is beaten by nothing in both. Upright lines: 90% interval of {y}."
    return Figure("front", f"{y[0].upper()}{y[1:]} against {x}", front_picture(plan.front), caption)


def _fleet_figure(plan: Plan) -> Figure | None:
    if not any(line.points for line in plan.fleet):
        return None
    caption = f"Bands: 90% interval. Shaded: more than {MOST_MEASURED:,} devices, of which nobody has published a run."
    return Figure("fleet", "Goodput against the size of the fleet", fleet_picture(plan.fleet), caption)


def _sensitivity_figure(plan: Plan) -> Figure | None:
    if plan.sensitivity is None or not plan.sensitivity.levers:
        return None
    caption = f"How {plan.sensitivity.outcome} would change if one thing alone were made worse or better."
    heading = f"Sensitivity of {plan.sensitivity.outcome}"
    return Figure("sensitivity", heading, tornado_picture(plan.sensitivity), caption)


_FIGURES: tuple[Callable[[Plan], Figure | None], ...] = (
    _time_figure,
    _memory_figure,
    _front_figure,
    _fleet_figure,
    _sensitivity_figure,
)


# Layouts as bars and words


def time_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Seconds of a step by group of parts, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{seconds_text(layout.seconds)} s [{seconds_text(layout.low)}, {seconds_text(layout.high)}]",
            grouped(layout.time, TIME_GROUPS),
            (layout.low, layout.high),
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def memory_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Decimal gigabytes of the fullest device by part, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{layout.memory_bytes / GIGA:.1f} GB",
            {name: size / GIGA for name, size in grouped(layout.memory, MEMORY_GROUPS).items()},
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def grouped(parts: Mapping[str, float], groups: Iterable[tuple[str, Paint, tuple[str, ...]]]) -> dict[str, float]:
    """Sums of the parts that are drawn as one."""
    return {name: sum(parts.get(part, 0.0) for part in members) for name, _, members in groups}


def degrees_text(layout: Planned) -> str:
    """TP 8 · PP 16 · DP 128, without degrees that are 1; a single device is "one device"."""
    degrees = {
        "TP": layout.tensor,
        "CP": layout.context,
        "PP": layout.pipeline,
        "DP": layout.data,
        "EP": layout.expert,
    }
    return " · ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "no parallelism"


def batch_text(layout: Planned) -> str:
    """Everything else that tells layouts apart."""
    words = [f"micro-batch {layout.micro_batch}"]
    words += [schedule_text(layout)] if layout.pipeline > 1 else []
    words += [f"{layout.recomputation} recomputation"] if layout.recomputation != "none" else ["no recomputation"]
    return ", ".join([*words, sharding_text(layout)])


def schedule_text(layout: Planned) -> str:
    """How micro-batches go through the pipeline; a dash where there is none."""
    if layout.pipeline == 1:
        return "–"
    base = f"{layout.interleaving} chunks" if layout.interleaving > 1 else "1F1B"
    return base if not layout.zero_bubble else "zero bubble" if base == "1F1B" else f"{base}, zero bubble"


def sharding_text(layout: Planned) -> str:
    """What each device keeps whole."""
    return {0: "nothing sharded", 1: "ZeRO-1", 2: "ZeRO-2", 3: "FSDP"}[layout.sharding]


def seconds_text(seconds: float) -> str:
    """Three digits, more from 1000 s on: 6.21, 0.0312, 1234."""
    return f"{seconds:.0f}" if seconds >= 999.5 else f"{seconds:#.3g}".rstrip(".")


# In a terminal

EXPLANATION = (
    "TP tensor, CP context, PP pipeline, DP data and EP expert parallel degrees; chunks: of the model on each stage",
    "(z: zero bubble); micro: sequences of a micro-batch; step: seconds, with the 90% interval; GB: of the fullest",
    "device; fits: the chance that memory is enough, given how far forecasts were off. Of layouts that differ only in",
    "sharding, schedule and recomputation, or in how context and micro-batch share out tokens, the fastest is shown.",
)
EXTRAPOLATION = "*"
EXTRAPOLATED = "* extrapolation: nobody has published a measurement on as many devices"


@dataclass(frozen=True)
class Column:
    """A heading, the least width, and what stands below; numbers are right-aligned."""

    head: str
    width: int
    cell: Callable[[Planned], str]
    left: bool = False


COLUMNS = (
    Column("TP", 2, lambda layout: str(layout.tensor)),
    Column("CP", 2, lambda layout: str(layout.context)),
    Column("PP", 3, lambda layout: str(layout.pipeline)),
    Column("DP", 5, lambda layout: str(layout.data)),
    Column("EP", 3, lambda layout: str(layout.expert)),
    Column("chunks", 6, lambda layout: f"{layout.interleaving}{'z' if layout.zero_bubble else ''}"),
    Column("micro", 5, lambda layout: str(layout.micro_batch)),
    Column("recompute", 9, lambda layout: layout.recomputation, left=True),
    Column("sharding", 8, lambda layout: sharding_text(layout) if layout.sharding else "none", left=True),
    Column("step", 5, lambda layout: seconds_text(layout.seconds)),
    Column("90% interval", 13, lambda layout: f"{seconds_text(layout.low)} to {seconds_text(layout.high)}"),
    Column("tokens/s", 8, lambda layout: short(layout.tokens_per_second)),
    Column("MFU", 5, lambda layout: f"{100 * layout.mfu:.1f}%"),
    Column("GB", 5, lambda layout: f"{layout.memory_bytes / GIGA:.1f}"),
    Column("fits", 4, lambda layout: f"{layout.chance_to_fit:.0%}"),
)


def plan_table(layouts: Sequence[Planned]) -> list[str]:
    """Lines: heading, one for each layout in order of rank, and what the headings mean.

    Columns have the same widths for every plan, unless a number is longer than any cluster of today needs.
    """
    widths = [max([column.width, *(len(column.cell(layout)) for layout in layouts)]) for column in COLUMNS]
    head = _line("#", [column.head for column in COLUMNS], widths)
    rows = [
        _line(str(rank), [column.cell(layout) for column in COLUMNS], widths)
        + (f" {EXTRAPOLATION}" if layout.extrapolation else "")
        for rank, layout in enumerate(layouts, 1)
    ]
    said = [EXTRAPOLATED] if any(layout.extrapolation for layout in layouts) else []
    return [head, *rows, "", *EXPLANATION, *said]


def _line(rank: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = [
        f"{cell:<{width}}" if column.left else f"{cell:>{width}}"
        for column, cell, width in zip(COLUMNS, cells, widths, strict=True)
    ]
    return "  ".join([f"{rank:>2}", *placed]).rstrip()
