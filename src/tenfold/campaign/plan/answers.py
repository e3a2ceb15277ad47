"""From what the planner's rooms answer to lines for people, pages and files."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from tenfold.campaign.files import write_text
from tenfold.campaign.plan.build import asked_of, front_of, planned
from tenfold.campaign.plan.files import NO_RENDERER, write_pictures
from tenfold.campaign.plan.plan import Lever, Plan, Sensitivity
from tenfold.errors import InputError
from tenfold.planner.calibration import shipped
from tenfold.planner.codesign import Design
from tenfold.planner.codesign import Plan as Designed
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.step import StepTime
from tenfold.planner.export import campaign_sections, megatron_text, torchtitan_toml
from tenfold.planner.fleet import (
    FleetCurves,
    FleetRun,
    FleetSection,
    IntervalChoice,
    SparesChoice,
    fleet_run,
    goodput_curves,
    load_fleet,
    profile_names,
)
from tenfold.planner.hardware import Cluster
from tenfold.planner.search import Question, Regret, assess, choose_exchange

OWN = "tenfold"
"""The framework that a campaign trains with."""
LARGEST_FLEET = 10_000_000
SHARED_OUT = 8  # learners that the smallest fleet of the curves is split into
FACTORS = (1 / 8, 1 / 2, 1, 4, 16, 64)
HOUR = 3600


@dataclass(frozen=True)
class Shown:
    """An answer: for programs, and line by line for people."""

    record: dict[str, Any]
    lines: list[str]


def progress(what: str, stream: TextIO) -> Callable[[int, int], None]:
    """A callback that keeps one line of `stream` up to date with count and time left."""
    begin = time.monotonic()

    def told(done: int, of: int) -> None:
        left = (time.monotonic() - begin) / done * (of - done)
        stream.write(f"\r{what} {done} of {of}, {left:.0f} s left " + ("\n" if done == of else ""))
        stream.flush()

    return told


def fleet_of(text: str, cluster: Cluster) -> FleetRun:
    """A TOML file with a [fleet] table, or the name of a profile of failure rates. Raises InputError for neither."""
    if Path(text).exists() or text.endswith(".toml"):
        return load_fleet(Path(text), cluster)
    if text in profile_names():
        return fleet_run(FleetSection(profile=text), cluster)
    raise InputError(f"--simulate {text}: no such file and no profile; profiles are {', '.join(profile_names())}")


def sizes_around(cluster: Cluster) -> list[int]:
    """Fleet sizes for the curves: whole hosts, from an eighth of the cluster to 64 times it."""
    host = cluster.node_devices
    sizes = {max(1, round(cluster.devices * factor / host)) * host for factor in FACTORS}
    return sorted(size for size in sizes if size <= LARGEST_FLEET)


def curves_around(run: FleetRun, cluster: Cluster, replica_devices: int) -> FleetCurves:
    """Goodput of three ways to train against the size of the fleet.

    `replica_devices` are those of one data-parallel replica where the run does not say; what divides all sizes counts.
    """
    sizes, host = sizes_around(cluster), cluster.node_devices
    replica = run.replica_devices or math.gcd(replica_devices, *sizes)
    learner = max(1, min(sizes) // SHARED_OUT // host) * host
    return goodput_curves(replace(run, replica_devices=replica), sizes, learner_devices=math.gcd(learner, *sizes))


def interval_line(choice: IntervalChoice) -> str:
    """The checkpoint interval that the simulator prefers, beside the formulas'."""
    young, daly, best = (_span(seconds) for seconds in (choice.young_s, choice.daly_s, choice.best_s))
    return f"checkpoint every {best} (Young {young}, Daly {daly})"


def spares_line(choice: SparesChoice) -> str:
    """The number of spare hosts that is worth most."""
    return f"spare hosts: {choice.best} worth most; {choice.standby} are enough 99% of the time"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= 2 * HOUR else f"{seconds / 60:.1f} min"


@dataclass(frozen=True)
class _Chosen:
    """A design's layout and step, under the names that a search gives them."""

    layout: Layout
    seconds: float
    low: float
    high: float
    memory: Memory
    time: StepTime
    tokens_per_second: float
    mfu: float
    extrapolation: bool


def page_of(designed: Designed, cluster: Cluster) -> Plan:
    """A co-designed plan as its page shows it: layouts of the best model, the front of all, what relaxing is worth."""
    first, goal = designed.best[0], designed.goal
    layouts = [planned(_chosen(first))]
    if first.devices == cluster.devices:
        question = Question(first.shape, cluster, first.sequences, goal.precision, goal.framework)
        layouts = [planned(assess(question, each.layout, shipped())) for each in designed.layouts]
    return Plan(
        asked=asked_of(cluster, _name(first), first.shape, first.sequences, goal.precision),
        layouts=tuple(layouts),
        front=front_of(designed.front),
        sensitivity=_worth(designed),
        notes=designed.notes,
    )


def _worth(designed: Designed) -> Sensitivity | None:
    """Days (or dollars) that the same result takes with each limit relaxed."""
    outcome = "dollars" if designed.goal.aim == "cost" else "days"
    levers = []
    for one in designed.worth:
        change, _, name = one.what.partition(" ")  # "+20% memory"
        if one.saved is not None:
            levers.append(Lever(name, "", None, change, -one.saved))
    return Sensitivity(outcome, tuple(levers)) if levers else None


def _name(design: Design) -> str:
    shape = design.shape
    return f"{design.parameters / 1e9:.3g}B ({shape.layers:g} layers of {shape.width:g})"


def _chosen(design: Design) -> _Chosen:
    low, high = design.step_interval
    return _Chosen(
        design.layout,
        design.step_seconds,
        low,
        high,
        design.memory,
        design.time,
        design.tokens_per_second,
        design.mfu,
        design.extrapolation,
    )


def written(plan: Plan, to: Path | None) -> list[str]:
    """Write page and pictures below `to`, if given; one line that says so."""
    if to is None:
        return []
    png = find_spec("resvg_py") is not None
    paths = write_pictures(plan, to, png=png)
    return [f"wrote {', '.join(str(path) for path in paths)}", *([] if png else [f"no PNGs: {NO_RENDERER}"])]


def written_settings(designed: Designed, to: Path) -> list[str]:
    """Write the best plan as settings of tenfold, torchtitan and Megatron-LM."""
    job = designed.job
    texts = {
        "campaign.toml": campaign_sections(job, shipped().memory_constants(OWN)),
        "torchtitan.toml": torchtitan_toml(job),
        "megatron.txt": megatron_text(job),
    }
    for name, text in texts.items():
        write_text(to / name, text)
    return [f"wrote {', '.join(str(to / name) for name in texts)}"]


def framework_notes(framework: str) -> list[str]:
    """That a framework was never measured, if so."""
    known = shipped().frameworks()
    if framework in known:
        return []
    return [f"nobody measured {framework}: it gets the mean of {', '.join(known)}, and their spread"]


def risk_notes(risk: Regret) -> list[str]:
    """What picking the layout that is forecast best risks."""
    return [
        f"taking the first untried is expected to cost {risk.first:.1%} against the truly fastest; trying the first "
        f"{risk.tries} brings that to at most 1%",
        f"picked because its forecast is lowest, the first takes {risk.optimism:.1%} longer than it says, on average",
    ]


def site_notes(question: Question, inner_seconds: float) -> list[str]:
    """For several sites: what letting each train on its own, as `[cluster] learners` does, saves over lock-step."""
    if question.sites < 2:
        return []
    try:
        joined = choose_exchange(question, inner_seconds, shipped())
    except InputError as error:  # an answer too: no exchange can be hidden on such a line
        return [str(error)]
    how, waited = joined.exchange, joined.synchronous_exposed
    return [
        f"the {question.sites} sites train in step here and wait {waited:.2f} s of each step for each other; "
        f"semi-synchronous, with {how.inner_steps} inner steps, {how.fragments} fragments and {how.bits} bits, they "
        f"wait {joined.exposed:.2f} s and are {joined.speedup:.2f} times as fast, if a token teaches them as much"
    ]
