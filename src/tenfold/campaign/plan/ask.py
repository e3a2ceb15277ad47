"""`tenfold plan model|goal|fleet|check`: a question to the planner, answered as a record and as lines to read."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tenfold.campaign.plan.build import asked_of, fleet_lines, page_of, planned, sensitivity_of, write_settings
from tenfold.core import InputError, ProgressLines, RunConsole, run_console
from tenfold.pages import Plan, plan_table, write_page
from tenfold.planner import (
    HELD_OUT,
    PRECISIONS,
    Choice,
    Cluster,
    FleetRun,
    LayoutQuestion,
    MachineLever,
    Regret,
    Shape,
    alone_seconds,
    assumed_line,
    best_interval,
    best_spares,
    cost_notes,
    curves_around,
    effect_line,
    evaluate_rows,
    find_cluster,
    fleet_of,
    goodput_of,
    interval_line,
    known_model,
    load_goal,
    plan_lines,
    regret,
    risk_notes,
    search_goal,
    search_layouts,
    sensitivity,
    shipped_calibration,
    simulate_fleet,
    site_notes,
    spares_line,
    stranger_notes,
)
from tenfold.planner import explain as explain_layout

BATCH_TOKENS, PRECISION, FRAMEWORK, TOP = 4_194_304, "bf16", "megatron-core", 5
REPLICA_HOSTS = 16
"""Hosts of one data-parallel replica, where nothing says how large a model is."""
CHECKPOINT_BYTES = 14
"""Of one parameter in a checkpoint: its 16-bit weight, its fp32 weight, two moments."""
SMALLEST_WORTH = 0.0005
"""Relative change of the days below which a property of the machine is not worth a line."""


@dataclass(frozen=True)
class PlanAnswer:
    """An answer: for programs, and line by line for people."""

    record: dict[str, Any]
    lines: list[str]


def plan_model(
    model: str,
    cluster: str,
    *,
    batch_tokens: int = BATCH_TOKENS,
    context: int | None = None,
    precision: str = PRECISION,
    framework: str = FRAMEWORK,
    top: int = TOP,
    explain: bool = False,
    simulate: str | None = None,
    to: Path | None = None,
) -> PlanAnswer:
    """The fastest layouts of a known model, what they hang on, and what picking the first one risks.

    `simulate` counts failures too, `to` is a folder for the page and its pictures. Raises InputError for an unknown
    model, cluster, precision or fleet, or where nothing fits.
    """
    known, machine, calibrated = known_model(model), find_cluster(cluster), shipped_calibration()
    shape = known.shape if context is None else replace(known.shape, context=float(context))
    question = _layout_question(shape, machine, batch_tokens, precision, framework)
    found = search_layouts(question, calibrated, top=top)
    first, levers, risk = found.best[0], sensitivity(question, calibrated), regret(found, question, calibrated)
    run = fleet_of(simulate, machine, CHECKPOINT_BYTES * float(shape.parameters)) if simulate is not None else None
    curves = curves_around(run, machine, _replica_devices(first)) if run else None
    plan = Plan(
        asked=asked_of(machine, model, shape, question.sequences, question.precision),
        layouts=tuple(planned(choice) for choice in found.best),
        fleet=fleet_lines(curves) if curves else (),
        sensitivity=sensitivity_of(levers),
        notes=(*cost_notes(first, known.tokens, machine, run), *_layout_notes(question, first, risk)),
    )
    lines = [f"{found.searched:,} layouts, {found.feasible:,} fit, {found.elapsed:.1f} s", *plan_table(plan.layouts)]
    lines += ["", *map(effect_line, (each.better for each in levers if _worth_saying(each))), "", *plan.notes]
    lines += ["", *curves.lines()] if curves else []
    lines += ["", *explain_layout(first, question, calibrated)] if explain else []
    record = plan.to_dict() | {"regret": asdict(risk), "searched": found.searched, "feasible": found.feasible}
    return PlanAnswer(record | {"refused": dict(found.refused)}, [*lines, *write_page(plan, to)])


def _layout_notes(question: LayoutQuestion, first: Choice, risk: Regret) -> list[str]:
    calibrated = shipped_calibration()
    return [
        *stranger_notes(question.framework, question.cluster.accelerator.name, calibrated),
        *risk_notes(risk),
        *site_notes(question, alone_seconds(first, question, calibrated), calibrated),
    ]


def plan_goal(file: Path, cluster: str, *, simulate: str | None = None, to: Path | None = None) -> PlanAnswer:
    """Model, layout and batch for a goal; with `to`, a page, pictures and settings of three programs.

    With `simulate`, the share of time that trains is what failures leave at each size, in place of the goal's. Raises
    InputError for a bad goal, cluster or fleet, or a goal that cannot be met.
    """
    machine, goal = find_cluster(cluster), load_goal(file)
    goodput = goodput_of(fleet_of(simulate, machine)) if simulate else None
    with run_console() as console:
        told = ProgressLines(console, "plan").counter("searching for layouts", "searches")
        designed = search_goal(goal, machine, shipped_calibration(), goodput=goodput, told=told)
    lines = plan_lines(designed)
    if to is not None:
        lines += [*write_page(page_of(designed), to), *write_settings(designed.job, to)]
    return PlanAnswer(designed.to_dict(), lines)


def plan_fleet(fleet: str, cluster: str) -> PlanAnswer:
    """Failures of a run on a cluster, the best checkpoint interval and spares, and the size where lock-step ends.

    `fleet` is a TOML file with a [fleet] table or the name of a profile of failure rates. Raises InputError where it
    is neither.
    """
    machine = find_cluster(cluster)
    run = fleet_of(fleet, machine)
    with run_console() as console:
        return _fleet_answer(run, machine, console)


def _fleet_answer(run: FleetRun, cluster: Cluster, console: RunConsole) -> PlanAnswer:
    console.say("plan: simulating the run")
    result = simulate_fleet(run)
    console.say("plan: trying checkpoint intervals")
    interval = best_interval(run)
    console.say("plan: trying numbers of spares")
    spares = best_spares(run)
    console.say("plan: simulating other sizes")
    curves = curves_around(run, cluster, REPLICA_HOSTS * cluster.node_devices)
    record = {
        "run": result.to_dict(),
        "best_interval": asdict(interval),
        "best_spares": asdict(spares),
        "sizes": curves.to_dict(),
    }
    lines = [*result.lines(), "", assumed_line(run), interval_line(interval), spares_line(spares), "", *curves.lines()]
    return PlanAnswer(record, lines)


def plan_check(rows: Path, *, held_out: str | None = None) -> PlanAnswer:
    """Forecasts of measured runs beside what was measured.

    With `held_out` (shape, source or scale) by constants fitted to the table's other rows. Raises InputError for a
    table that cannot be read or another word.
    """
    out = next((each for each in HELD_OUT if each == held_out), None)
    if held_out is not None and out is None:
        raise InputError(f"--held-out {held_out}: allowed are {', '.join(HELD_OUT)}")
    with run_console() as console:
        told = ProgressLines(console, "plan").counter("fitting without the held-out runs", "fits")
        evaluation = evaluate_rows(rows, out, told)
    return PlanAnswer(evaluation.to_dict(), evaluation.lines())


def _layout_question(
    shape: Shape, cluster: Cluster, batch_tokens: int, precision: str, framework: str
) -> LayoutQuestion:
    chosen = next((each for each in PRECISIONS if each == precision), None)
    if chosen is None:
        raise InputError(f"--precision {precision}: allowed are {', '.join(PRECISIONS)}")
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
