"""What `tenfold plan` does, one function for each of its questions."""

import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from tenfold.campaign.plan.answers import (
    Shown,
    cost_notes,
    page_of,
    progress,
    risk_notes,
    site_notes,
    stranger_notes,
    worth_saying,
    written,
    written_settings,
)
from tenfold.campaign.plan.build import asked_of, fleet_lines, planned, sensitivity_of
from tenfold.campaign.plan.fleets import assumed_line, curves_around, fleet_of, goodput_of, interval_line, spares_line
from tenfold.core.errors import InputError
from tenfold.pages.plan import Plan
from tenfold.pages.plan_page import plan_table
from tenfold.planner.calibration import shipped
from tenfold.planner.codesign import known_model, load_goal, plan_goal, plan_lines, progress_to
from tenfold.planner.cost.shape import Shape
from tenfold.planner.evaluate import HELD_OUT, evaluate_rows
from tenfold.planner.fleet import FleetRun, best_interval, best_spares, simulate_fleet
from tenfold.planner.hardware import (
    PRECISIONS,
    Cluster,
    default_cluster,
    example_cluster,
    example_clusters,
    load_cluster,
)
from tenfold.planner.search import Choice, Question, alone, explain, regret, search_layouts, sensitivity
from tenfold.planner.search import say as say_lever

REPLICA_HOSTS = 16  # of one data-parallel replica, where nothing says how large a model is


WORDS = {
    "campaign": "a campaign's directory",
    "model": "--model",
    "goal": "--goal",
    "simulate": "--simulate alone",
    "evaluate": "--evaluate",
}
LAYOUT = {"batch_tokens", "context", "precision", "framework", "top", "explain"}
OPTIONS = {
    "campaign": {"campaign", "again", "overrides"},
    "model": {"model", "cluster", "simulate", "to", *LAYOUT},
    "goal": {"goal", "cluster", "simulate", "to"},
    "simulate": {"simulate", "cluster"},
    "evaluate": {"evaluate", "held_out"},
}
"""What each question takes."""
BATCH_TOKENS, PRECISION, FRAMEWORK, SHOWN = 4_194_304, "bf16", "megatron-core", 5
CHECKPOINT_BYTES = 14  # of a parameter: 16-bit weight, fp32 weight, two moments


@dataclass(frozen=True)
class PlanAsked:
    """The command line of `tenfold plan`."""

    campaign: Path = Path()
    model: str | None = None
    goal: Path | None = None
    simulate: str | None = None
    evaluate: Path | None = None
    held_out: str | None = None
    cluster: str | None = None
    batch_tokens: int | None = None
    context: int | None = None
    precision: str | None = None
    framework: str | None = None
    top: int | None = None
    explain: bool = False
    again: bool = False
    to: Path | None = None
    overrides: tuple[str, ...] = ()


def ask(asked: PlanAsked) -> Shown:
    """Answer the question that the options put. Raises InputError where they put none, or two."""
    question = _question(asked)
    _refuse_others(asked, question)
    if question == "evaluate":
        return ask_evaluation(asked.evaluate or Path(), asked.held_out)
    if question == "campaign":
        return _ask_campaign(asked)
    if asked.cluster is None:
        raise InputError(f"--cluster is needed: a TOML file, one of {', '.join(example_clusters())}, or H100-SXM:1024")
    cluster = find_cluster(asked.cluster)
    if question == "goal":
        return ask_goal(asked.goal or Path(), cluster, asked.simulate, asked.to)
    if question == "model":
        return ask_layouts(asked, asked.model or "", cluster)
    return ask_fleet(asked.simulate or "", cluster)


def _question(asked: PlanAsked) -> str:
    chosen = [name for name in ("model", "goal", "evaluate") if getattr(asked, name) is not None]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} are two questions; ask them one after the other")
    return chosen[0] if chosen else "simulate" if asked.simulate is not None else "campaign"


def _refuse_others(asked: PlanAsked, question: str) -> None:
    """Raises InputError for an option that another question takes."""
    plain = PlanAsked()
    for each in fields(PlanAsked):
        if each.name not in OPTIONS[question] and getattr(asked, each.name) != getattr(plain, each.name):
            takers = " or ".join(WORDS[name] for name, options in OPTIONS.items() if each.name in options)
            name = "a campaign" if each.name == "campaign" else f"--{each.name.replace('_', '-')}"
            raise InputError(f"{name} goes with {takers}, not with {WORDS[question]}")


def _ask_campaign(asked: PlanAsked) -> Shown:
    from tenfold.experiments.local.stage import plan_locally

    found = plan_locally(asked.campaign, asked.overrides, again=asked.again)
    return Shown(found.to_dict(), found.lines())


def find_cluster(text: str) -> Cluster:
    """A TOML file, the name of an example, or ACCELERATOR:DEVICES. Raises InputError for what is none of them."""
    if text.endswith(".toml") or Path(text).is_file():
        return load_cluster(Path(text))
    if text in example_clusters():
        return example_cluster(text)
    name, colon, devices = text.rpartition(":")
    if colon and devices.isdigit() and int(devices) > 0:
        return default_cluster(name, int(devices))
    raise InputError(
        f"--cluster {text}: no such file and no example; give a TOML file, one of {', '.join(example_clusters())}, or "
        "ACCELERATOR:DEVICES such as H100-SXM:1024"
    )


def ask_evaluation(rows: Path, held_out: str | None) -> Shown:
    """Forecast measured runs. Raises InputError for a table that cannot be read or an unknown way to hold out."""
    out = next((each for each in HELD_OUT if each == held_out), None)
    if held_out is not None and out is None:
        raise InputError(f"--held-out {held_out}: allowed are {', '.join(HELD_OUT)}")
    evaluation = evaluate_rows(rows, out, progress("fitted without", sys.stderr))
    return Shown(evaluation.to_dict(), evaluation.lines())


def ask_fleet(text: str, cluster: Cluster) -> Shown:
    """Failures of a run on `cluster`, the best checkpoint interval and spares, and the size where lock-step ends."""
    run = fleet_of(text, cluster)
    say("simulating the run")
    result = simulate_fleet(run)
    say("trying checkpoint intervals")
    interval = best_interval(run)
    say("trying numbers of spares")
    spares = best_spares(run)
    say("simulating other sizes")
    curves = curves_around(run, cluster, REPLICA_HOSTS * cluster.node_devices)
    record = {
        "run": result.to_dict(),
        "best_interval": asdict(interval),
        "best_spares": asdict(spares),
        "sizes": curves.to_dict(),
    }
    lines = [*result.lines(), "", assumed_line(run), interval_line(interval), spares_line(spares), "", *curves.lines()]
    return Shown(record, lines)


def say(what: str) -> None:
    """A word of progress, beside the answer."""
    print(f"plan: {what}", file=sys.stderr)


def ask_layouts(asked: PlanAsked, model: str, cluster: Cluster) -> Shown:
    """The fastest layouts of a known model, what they hang on, and what picking the first one risks."""
    known = known_model(model)
    question = _layout_question(asked, known.shape, cluster)
    found = search_layouts(question, shipped(), top=asked.top or SHOWN)
    levers = sensitivity(question, shipped())
    risk = regret(found, question, shipped())
    run = _fleet(asked, question)
    curves = curves_around(run, cluster, _replica(found.best[0])) if run else None
    plan = Plan(
        asked=asked_of(cluster, model, question.shape, question.sequences, question.precision),
        layouts=tuple(planned(choice) for choice in found.best),
        fleet=fleet_lines(curves.points) if curves else (),
        sensitivity=sensitivity_of(levers),
        notes=(
            *cost_notes(found.best[0], known.tokens, cluster, run),
            *stranger_notes(question.framework, cluster.accelerator.name),
            *risk_notes(risk),
            *site_notes(question, alone(found.best[0], question, shipped())),
        ),
    )
    lines = [f"{found.searched:,} layouts, {found.feasible:,} fit, {found.elapsed:.1f} s", *plan_table(plan.layouts)]
    lines += ["", *(say_lever(each.better) for each in levers if worth_saying(each)), "", *plan.notes]
    lines += ["", *curves.lines()] if curves else []
    lines += ["", *explain(found.best[0], question, shipped())] if asked.explain else []
    record = plan.to_dict() | {"regret": asdict(risk), "searched": found.searched, "feasible": found.feasible}
    return Shown(record | {"refused": dict(found.refused)}, [*lines, *written(plan, asked.to)])


def _layout_question(asked: PlanAsked, shape: Shape, cluster: Cluster) -> Question:
    precision = next((each for each in PRECISIONS if each == (asked.precision or PRECISION)), None)
    if precision is None:
        raise InputError(f"--precision {asked.precision}: allowed are {', '.join(PRECISIONS)}")
    if asked.context is not None:
        shape = replace(shape, context=float(asked.context))
    sequences = _sequences(asked.batch_tokens or BATCH_TOKENS, shape)
    framework = FRAMEWORK if asked.framework is None else asked.framework
    return Question(shape, cluster, sequences, precision, framework)


def _fleet(asked: PlanAsked, question: Question) -> FleetRun | None:
    """The failures asked for, with checkpoints of this model."""
    if asked.simulate is None:
        return None
    return fleet_of(asked.simulate, question.cluster, CHECKPOINT_BYTES * float(question.shape.parameters))


def _replica(choice: Choice) -> int:
    """Devices of one data-parallel replica."""
    return round(float(choice.layout.devices / choice.layout.data))


def _sequences(batch_tokens: int, shape: Shape) -> int:
    sequences, rest = divmod(batch_tokens, round(float(shape.context)))
    if rest or not sequences:
        raise InputError(f"--batch-tokens {batch_tokens} is not a multiple of the context of {shape.context:g} tokens")
    return sequences


def ask_goal(file: Path, cluster: Cluster, simulate: str | None, to: Path | None) -> Shown:
    """Model, layout and batch for a goal; with `to`, a page, pictures and settings of three programs.

    With `simulate`, the share of time that trains is what failures leave at each size, in place of the goal's.
    """
    goodput = goodput_of(fleet_of(simulate, cluster)) if simulate else None
    designed = plan_goal(load_goal(file), cluster, shipped(), goodput=goodput, told=progress_to())
    print(file=sys.stderr)  # the line of progress ends here
    lines = plan_lines(designed)
    if to is not None:
        lines += [*written(page_of(designed, cluster), to), *written_settings(designed, to)]
    record: dict[str, Any] = designed.to_dict()
    return Shown(record, lines)
