"""The plan for people: the section that the report shows, and a page of its own that opens offline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tenfold.pages.charts import template_environment
from tenfold.pages.plan import Asked, Plan, Planned
from tenfold.pages.plan_bars import (
    GIGA,
    MEMORY_PAINTS,
    TIME_PAINTS,
    memory_bars,
    schedule_text,
    seconds_text,
    sharding_text,
    time_bars,
)
from tenfold.pages.plan_pictures import bars_picture, fleet_picture, front_picture, tornado_picture
from tenfold.planner.calibration.calibrated import MOST_MEASURED

MOST_BARS = 5
"""Layouts that the pictures show; the table has all."""
COUNTED = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"), (1e3, "thousand"))


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
    tokens = asked.sequences * asked.context
    return (
        f"How should {asked.model} ({counted(asked.parameters)} parameters, context {asked.context:,}) be laid out "
        f"over {asked.devices:,} × {asked.accelerator} ({asked.memory_bytes / GIGA:.4g} GB each) with "
        f"{asked.sequences:,} sequences ({counted(tokens)} tokens) in a step, in {asked.precision}?"
    )


def counted(number: float) -> str:
    """405 billion, 16.8 million."""
    for factor, word in COUNTED:
        if number >= factor:
            return f"{number / factor:.3g} {word}"
    return f"{number:.3g}"


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
