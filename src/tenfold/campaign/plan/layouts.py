"""`tenfold plan model`: the fastest layouts of a model on a cluster, answered as a record and as lines to read."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold.campaign.plan.answer import PlanAnswer, within_width
from tenfold.campaign.plan.build import asked_of, fleet_lines, planned, sensitivity_of
from tenfold.core import InputError
from tenfold.pages import Plan, plan_table, write_page
from tenfold.planner import (
    PRECISIONS,
    Choice,
    Cluster,
    LayoutQuestion,
    MachineLever,
    ManySites,
    Precision,
    Regret,
    Shape,
    compare_sites,
    cost_notes,
    effect_line,
    find_cluster,
    find_model,
    idle_notes,
    regret,
    risk_notes,
    search_usable,
    sensitivity,
    shipped_calibration,
    site_notes,
    stranger_notes,
)
from tenfold.planner import explain as explain_layout

if TYPE_CHECKING:
    from tenfold.planner import FleetRun

BATCH_TOKENS, FRAMEWORK, TOP = 4_194_304, "megatron-core", 5
USUAL_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32", "fp8", "fp4")
"""The first that the accelerator has is planned in, where nobody says which."""
CHECKPOINT_BYTES = 14
"""Of one parameter in a checkpoint: its 16-bit weight, its fp32 weight, two moments."""
MOST_CONTEXT = 1_000_000_000
SMALLEST_WORTH = 0.0005
"""Relative change of the days below which a property of the machine is not worth a line."""


def plan_model(
    model: str,
    cluster: str,
    *,
    batch_tokens: int = BATCH_TOKENS,
    context: int | None = None,
    precision: str | None = None,
    framework: str = FRAMEWORK,
    top: int = TOP,
    explain: bool = False,
    simulate: str | None = None,
    to: Path | None = None,
) -> PlanAnswer:
    """The fastest layouts of a model, what they hang on, and what picking the first one risks.

    `model` is a known one or a TOML file with [model]. `precision` is bf16 by default, or what the accelerator has.
    `simulate` counts failures too, `to` is a folder for the page and its pictures. Raises InputError for an unknown
    model, cluster, precision or fleet, or where nothing fits.
    """
    known, machine, calibrated = find_model(model), find_cluster(cluster), shipped_calibration()
    shape = known.shape if context is None else replace(known.shape, context=float(context))
    if simulate is not None:
        _fleet(simulate, machine, shape)  # a fleet that cannot be is refused before the work
    asked = _layout_question(shape, machine, batch_tokens, precision, framework)
    question, found = search_usable(asked, calibrated, top=top)
    used = question.cluster
    first, levers, risk = found.best[0], sensitivity(question, calibrated), regret(found)
    sites = compare_sites(first, question, calibrated, machine)
    run = _fleet(simulate, used, shape) if simulate is not None else None
    curves = None
    if run is not None:
        from tenfold.planner import curves_around  # only who asks for failures waits for what simulates them

        curves = curves_around(run, used, _replica_devices(first))
    plan = Plan(
        asked=asked_of(used, known.name, shape, question.sequences, question.precision),
        layouts=tuple(planned(choice) for choice in found.best),
        fleet=fleet_lines(curves) if curves else (),
        sensitivity=sensitivity_of(levers),
        notes=(
            *idle_notes(used),
            *_precision_notes(question, precision),
            *cost_notes(first, known.tokens, used, run),
            *_layout_notes(question, sites, risk),
        ),
    )
    lines = [f"{found.searched:,} layouts, {found.feasible:,} fit, {found.elapsed:.1f} s", *plan_table(plan.layouts)]
    lines += ["", *map(effect_line, (each.better for each in levers if _worth_saying(each))), "", *plan.notes]
    lines += ["", *curves.lines()] if curves else []
    lines += ["", *explain_layout(first, question, calibrated)] if explain else []
    record = plan.to_dict() | {"regret": asdict(risk), "searched": found.searched, "feasible": found.feasible}
    record |= {"refused": dict(found.refused), "idle_devices": used.idle, "sites": sites.to_dict() if sites else None}
    return PlanAnswer(record, within_width([*lines, *write_page(plan, to)]))


def _fleet(text: str, cluster: Cluster, shape: Shape) -> "FleetRun":
    from tenfold.planner import fleet_of

    return fleet_of(text, cluster, CHECKPOINT_BYTES * float(shape.parameters))


def _precision_notes(question: LayoutQuestion, precision: str | None) -> list[str]:
    if precision is not None or question.precision == USUAL_PRECISIONS[0]:
        return []
    chip = question.cluster.accelerator.name
    return [f"planned in {question.precision}: {chip} has no published peak in {USUAL_PRECISIONS[0]}"]


def _layout_notes(question: LayoutQuestion, sites: ManySites | None, risk: Regret) -> list[str]:
    return [
        *stranger_notes(question.framework, question.cluster.accelerator, shipped_calibration()),
        *risk_notes(risk),
        *(site_notes(sites) if sites else ()),
    ]


def _layout_question(
    shape: Shape, cluster: Cluster, batch_tokens: int, precision: str | None, framework: str
) -> LayoutQuestion:
    known = [each for each in USUAL_PRECISIONS if each in cluster.accelerator.peak_flops]
    chosen = known[0] if precision is None else next((each for each in PRECISIONS if each == precision), None)
    if chosen is None:
        raise InputError(f"--precision {precision}: allowed are {', '.join(PRECISIONS)}")
    if shape.context > MOST_CONTEXT:
        raise InputError(f"--context {shape.context:g}: at most {MOST_CONTEXT:,} tokens")
    sequences, rest = divmod(batch_tokens, round(float(shape.context)))
    if rest or not sequences:
        raise InputError(f"--batch-tokens {batch_tokens} is not a multiple of the context of {shape.context:g} tokens")
    return LayoutQuestion(shape, cluster, sequences, chosen, framework)


def _replica_devices(choice: Choice) -> int:
    """Devices of one data-parallel replica."""
    return round(float(choice.layout.devices / choice.layout.data))


def _worth_saying(lever: MachineLever) -> bool:
    """Whether the property changes anything."""
    return abs(lever.better.days) >= SMALLEST_WORTH
