"""From what the planner's rooms answer to lines for people, pages and files."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from tenfold.campaign.files import write_text
from tenfold.campaign.plan.build import asked_of, front_of, planned
from tenfold.campaign.plan.files import NO_RENDERER, write_pictures
from tenfold.campaign.plan.plan import Lever, Plan, Sensitivity, write_plan
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
    expected_goodput,
    first_interval,
    fleet_run,
    goodput_curves,
    load_fleet,
    profile_names,
    simulate_fleet,
)
from tenfold.planner.hardware import Cluster
from tenfold.planner.search import Choice, Question, Regret, assess, choose_exchange
from tenfold.planner.search import Lever as SearchedLever

OWN = "tenfold"
"""The framework that a campaign trains with."""
LARGEST_FLEET = 10_000_000
STEADY = 0.97
FEW_REPLICAS = 10
LEAST_GOODPUT = 0.001
SMALLEST_WORTH = 0.0005
DAY = 86_400
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


def fleet_of(text: str, cluster: Cluster, checkpoint_bytes: float = 0.0) -> FleetRun:
    """A TOML file with a [fleet] table, or the name of a profile of failure rates. Raises InputError for neither.

    `checkpoint_bytes` go with a profile: those of the model, if one is known.
    """
    if Path(text).exists() or text.endswith(".toml"):
        return load_fleet(Path(text), cluster)
    if text in profile_names():
        return fleet_run(FleetSection(profile=text, checkpoint_bytes=checkpoint_bytes), cluster)
    raise InputError(f"--simulate {text}: no such file and no profile; profiles are {', '.join(profile_names())}")


def sizes_around(cluster: Cluster) -> list[int]:
    """Fleet sizes for the curves: whole hosts, from an eighth of the cluster to 64 times it."""
    host = cluster.node_devices
    sizes = {max(1, round(cluster.devices * factor / host)) * host for factor in FACTORS}
    return sorted(size for size in sizes if size <= LARGEST_FLEET)


def goodput_of(run: FleetRun) -> Callable[[int], float]:
    """Share of the time of so many devices that failures leave for training, simulated once for each size."""

    @cache
    def goodput(devices: int) -> float:
        spares = math.ceil(run.recovery.spares * devices / run.devices)
        sized = replace(run, devices=devices, recovery=replace(run.recovery, spares=spares))
        tuned = replace(sized, checkpoint=replace(sized.checkpoint, interval_s=first_interval(sized)))
        return simulate_fleet(tuned, FEW_REPLICAS).goodput.mean

    return goodput


def cost_notes(choice: Choice, tokens: float, cluster: Cluster, run: FleetRun | None) -> list[str]:
    """Days, dollars and energy of training on `tokens` (0: not published), with what failures leave if known."""
    if not tokens:
        return []
    share = goodput_of(run)(cluster.devices) if run else 1.0
    if share < LEAST_GOODPUT:
        return ["with these failures training in step never gets anywhere on so many devices"]
    days = tokens / choice.tokens_per_second / share / DAY
    low, high = days * choice.low / choice.seconds, days * choice.high / choice.seconds
    line = f"{days:.3g} days ({low:.3g} to {high:.3g}) for the {tokens / 1e12:.3g} T tokens it was trained on"
    line += f", at a goodput of {share:.1%}" if run else ", failures left out (--simulate counts them)"
    hours = days * 24 * cluster.devices
    if cluster.price_per_device_hour:
        line += f"; ${hours * cluster.price_per_device_hour:,.0f}"
    if cluster.accelerator.power_watts:
        watts = cluster.accelerator.power_watts * cluster.power_usage_effectiveness
        line += f"; {hours * watts / 1e9:,.3g} GWh at full power of the accelerators and the site's overhead"
    return [line]


def worth_saying(lever: SearchedLever) -> bool:
    """Whether the property changes anything."""
    return abs(lever.better.days) >= SMALLEST_WORTH


def curves_around(run: FleetRun, cluster: Cluster, replica_devices: int) -> FleetCurves:
    """Goodput of three ways to train against the size of the fleet.

    `replica_devices` are those of one data-parallel replica where the run does not say; what divides all sizes counts.
    """
    sizes = sizes_around(cluster)
    replica = run.replica_devices or math.gcd(replica_devices, *sizes)
    return goodput_curves(
        replace(run, replica_devices=replica), sizes, learner_devices=_learner_devices(run, min(sizes))
    )


def _learner_devices(run: FleetRun, most: int) -> int:
    """The largest part of a fleet, halved from `most`, that alone would still spend STEADY of its time on training."""
    size = most
    while size % (2 * run.node_devices) == 0 and size > 2 * run.node_devices:
        alone = replace(run, devices=size, mode="synchronous", learners=1, quorum=1)
        checkpoint = replace(alone.checkpoint, interval_s=first_interval(alone))
        if expected_goodput(replace(alone, checkpoint=checkpoint)) >= STEADY:
            break
        size //= 2
    return size


def assumed_line(run: FleetRun) -> str:
    """What the figures rest on, most of all."""
    recovery, checkpoint = run.recovery, run.checkpoint
    return (
        f"assumes: found in {_span(recovery.detect_s)}, restarted in {_span(run.restart_s)}, a checkpoint every "
        f"{_span(checkpoint.interval_s)} stalls {checkpoint.stall_s:.0f} s, {recovery.spares} spare hosts"
    )


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
    chance_to_fit: float
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
        design.chance_to_fit,
        design.extrapolation,
    )


def written(plan: Plan, to: Path | None) -> list[str]:
    """Write page and pictures below `to`, if given; one line that says so."""
    if to is None:
        return []
    png = find_spec("resvg_py") is not None
    paths = [*write_pictures(plan, to, png=png), to / "plan.json"]
    write_plan(plan, paths[-1])  # in a campaign's directory its report shows it
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


def stranger_notes(framework: str, accelerator: str) -> list[str]:
    """That nobody published runs of a framework or on an accelerator, if so."""
    known, notes = shipped().frameworks(), []
    if framework not in known:
        notes.append(f"no run of {framework} is known: it gets the mean of {', '.join(known)}, and their spread")
    if not shipped().knows(accelerator):
        notes.append(f"no run on {accelerator} is known: told from its figures, with a wider interval")
    return notes


def risk_notes(risk: Regret) -> list[str]:
    """What taking the layout that is forecast best risks."""
    notes = [f"the first is {risk.first:.1%} slower than the truly fastest on average, if it is taken untried"]
    if risk.tries > 1:
        notes.append(f"the fastest of the first {risk.tries}, tried, is at most 1% slower (--top shows as many)")
    return notes


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
        f"semi-synchronous, with inner_steps = {how.inner_steps}, fragments = {how.fragments} and {how.bits} bits, "
        f"they wait {joined.exposed:.2f} s and are {joined.speedup:.2f} times as fast, if a token teaches them as much"
    ]
