"""What `tenfold plan` does, one function for each of its questions."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tenfold.campaign.plan.answers import (
    Shown,
    curves_around,
    fleet_of,
    framework_notes,
    interval_line,
    page_of,
    progress,
    risk_notes,
    site_notes,
    spares_line,
    written,
    written_settings,
)
from tenfold.campaign.plan.build import asked_of, fleet_lines, planned, sensitivity_of
from tenfold.campaign.plan.plan import Plan
from tenfold.campaign.plan.table import plan_table
from tenfold.errors import InputError
from tenfold.planner.calibration import shipped
from tenfold.planner.codesign import known_model, load_goal, plan_goal, plan_lines, progress_to
from tenfold.planner.cost.shape import Shape
from tenfold.planner.evaluate import HELD_OUT, evaluate_rows
from tenfold.planner.fleet import best_interval, best_spares, simulate_fleet
from tenfold.planner.hardware import (
    PRECISIONS,
    Cluster,
    default_cluster,
    example_cluster,
    example_clusters,
    load_cluster,
)
from tenfold.planner.search import Choice, Question, alone, explain, regret, say, search_layouts, sensitivity

REPLICA_HOSTS = 16  # of one data-parallel replica, where nothing says how large a model is


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
    batch_tokens: int = 4_194_304
    context: int | None = None
    precision: str = "bf16"
    framework: str = "megatron-core"
    top: int = 5
    explain: bool = False
    again: bool = False
    to: Path | None = None
    overrides: tuple[str, ...] = ()


def ask(asked: PlanAsked) -> Shown:
    """Answer the question that the options put. Raises InputError where they put none, or two."""
    chosen = [name for name in ("model", "goal", "evaluate") if getattr(asked, name) is not None]
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} are two questions; ask them one after the other")
    if asked.evaluate is not None:
        return ask_evaluation(asked.evaluate, asked.held_out)
    if asked.held_out is not None:
        raise InputError("--held-out goes with --evaluate")
    if not chosen and asked.simulate is None:
        return _ask_campaign(asked)
    if asked.cluster is None:
        raise InputError(f"--cluster is needed: a TOML file, one of {', '.join(example_clusters())}, or H100-SXM:1024")
    cluster = find_cluster(asked.cluster)
    if asked.goal is not None:
        return ask_goal(asked.goal, cluster, asked.to)
    if asked.model is not None:
        return ask_layouts(asked, asked.model, cluster)
    return ask_fleet(asked.simulate or "", cluster)


def _ask_campaign(asked: PlanAsked) -> Shown:
    from tenfold.campaign.plan.local import plan_locally  # loads torch, which the other questions do without

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
    result = simulate_fleet(run)
    interval, spares = best_interval(run), best_spares(run)
    curves = curves_around(run, cluster, REPLICA_HOSTS * cluster.node_devices)
    record = {
        "run": result.to_dict(),
        "best_interval": asdict(interval),
        "best_spares": asdict(spares),
        "sizes": curves.to_dict(),
    }
    return Shown(record, [*result.lines(), "", interval_line(interval), spares_line(spares), "", *curves.lines()])


def ask_layouts(asked: PlanAsked, model: str, cluster: Cluster) -> Shown:
    """The fastest layouts of a known model, what they hang on, and what picking the first one risks."""
    shape = _with_context(known_model(model).shape, asked.context)
    precision = next((each for each in PRECISIONS if each == asked.precision), None)
    if precision is None:
        raise InputError(f"--precision {asked.precision}: allowed are {', '.join(PRECISIONS)}")
    sequences = _sequences(asked.batch_tokens, shape)
    question = Question(shape, cluster, sequences, precision, asked.framework)
    found = search_layouts(question, shipped(), top=asked.top)
    levers = sensitivity(question, shipped())
    risk = regret(found, question, shipped())
    curves = (
        curves_around(fleet_of(asked.simulate, cluster), cluster, _replica(found.best[0])) if asked.simulate else None
    )
    plan = Plan(
        asked=asked_of(cluster, model, shape, sequences, precision),
        layouts=tuple(planned(choice) for choice in found.best),
        fleet=fleet_lines(curves.points) if curves else (),
        sensitivity=sensitivity_of(levers),
        notes=(
            *framework_notes(asked.framework),
            *risk_notes(risk),
            *site_notes(question, alone(found.best[0], question, shipped())),
        ),
    )
    lines = [f"{found.searched:,} layouts, {found.feasible:,} fit, {found.elapsed:.1f} s", *plan_table(plan.layouts)]
    lines += ["", *(say(each.better) for each in levers), "", *plan.notes]
    lines += ["", *curves.lines()] if curves else []
    lines += ["", *explain(found.best[0], question, shipped())] if asked.explain else []
    record = plan.to_dict() | {"regret": asdict(risk), "searched": found.searched, "feasible": found.feasible}
    return Shown(record | {"refused": dict(found.refused)}, [*lines, *written(plan, asked.to)])


def _replica(choice: Choice) -> int:
    """Devices of one data-parallel replica."""
    return round(float(choice.layout.devices / choice.layout.data))


def _with_context(shape: Shape, context: int | None) -> Shape:
    return shape if context is None else replace(shape, context=float(context))


def _sequences(batch_tokens: int, shape: Shape) -> int:
    sequences, rest = divmod(batch_tokens, round(float(shape.context)))
    if rest or not sequences:
        raise InputError(f"--batch-tokens {batch_tokens} is not a multiple of the context of {shape.context:g} tokens")
    return sequences


def ask_goal(file: Path, cluster: Cluster, to: Path | None) -> Shown:
    """Model, layout and batch for a goal; with `to`, a page, pictures and settings of three programs."""
    designed = plan_goal(load_goal(file), cluster, shipped(), told=progress_to())
    print(file=sys.stderr)  # the line of progress ends here
    lines = plan_lines(designed)
    if to is not None:
        lines += [*written(page_of(designed, cluster), to), *written_settings(designed, to)]
    record: dict[str, Any] = designed.to_dict()
    return Shown(record, lines)
