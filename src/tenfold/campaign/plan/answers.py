"""From what the planner's rooms answer to lines for people, pages and files."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tenfold.campaign.plan.build import asked_of, planned
from tenfold.campaign.plan.files import write_pictures
from tenfold.campaign.plan.plan import Front, FrontPoint, Lever, Plan, Planned, Sensitivity
from tenfold.planner.codesign import Design
from tenfold.planner.codesign import Plan as Designed
from tenfold.planner.export import campaign_sections, megatron_text, torchtitan_toml

from tenfold.campaign.files import write_text
from tenfold.errors import InputError
from tenfold.planner.calibration import shipped
from tenfold.planner.fleet import (
    FleetRun,
    FleetSection,
    IntervalChoice,
    SparesChoice,
    fleet_run,
    load_fleet,
    profile_names,
)
from tenfold.planner.hardware import Cluster
from tenfold.planner.search import Choice, Question, Regret, choose_exchange
from tenfold.planner.search import Lever as Searched

LARGEST_FLEET = 10_000_000
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


def interval_line(choice: IntervalChoice) -> str:
    """The checkpoint interval that the simulator prefers, beside the formulas'."""
    young, daly, best = (_span(seconds) for seconds in (choice.young_s, choice.daly_s, choice.best_s))
    return f"checkpoint every {best} (Young {young}, Daly {daly})"


def spares_line(choice: SparesChoice) -> str:
    """The number of spare hosts that is worth most."""
    return f"spare hosts: {choice.best} worth most; {choice.standby} are enough 99% of the time"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= 2 * HOUR else f"{seconds / 60:.1f} min"


def levers_of(levers: Iterable[Searched]) -> Sensitivity:
    """For the tornado: days with less and with more of each property."""
    return Sensitivity(
        "days",
        tuple(
            Lever(
                name=each.what,
                less_setting=each.worse.change,
                less=_finite(each.worse.days),
                more_setting=each.better.change,
                more=_finite(each.better.days),
            )
            for each in levers
        ),
    )


def _finite(days: float) -> float | None:
    return days if abs(days) != float("inf") else None


def page_of(designed: Designed, cluster: Cluster) -> Plan:
    """A co-designed plan as its page shows it: the layouts of the best few, and the front of loss or cost over days."""
    first = designed.best[0]
    return Plan(
        asked=asked_of(cluster, _name(first), first.shape, first.sequences, designed.goal.precision),
        layouts=tuple(_planned(design) for design in designed.best),
        front=_front(designed),
        sensitivity=None,
        notes=designed.notes,
    )


def _name(design: Design) -> str:
    shape = design.shape
    return f"{design.parameters / 1e9:.3g}B ({shape.layers:g} layers of {shape.width:g})"


def _planned(design: Design) -> Planned:
    low, high = design.step_interval
    return planned(
        Choice(
            layout=design.layout,
            seconds=design.step_seconds,
            low=low,
            high=high,
            memory=design.memory,
            time=design.time,
            tokens_per_second=design.tokens_per_second,
            mfu=design.mfu,
            hfu=design.mfu,
            extrapolation=design.extrapolation,
        )
    )


def _front(designed: Designed) -> Front | None:
    """Loss over days where there is a loss, else device-days over days."""
    points = []
    for design in designed.front:
        if design.loss is None or design.loss_interval is None:
            return None
        low, high = design.loss_interval
        points.append(FrontPoint(_name(design), design.days, design.loss, low, high, best=True))
    return Front("days", "forecast loss, nats per token", tuple(points)) if points else None


def written(plan: Plan, to: Path | None) -> list[str]:
    """Write page and pictures below `to`, if given; one line that says so."""
    if to is None:
        return []
    return [f"wrote {', '.join(str(path) for path in write_pictures(plan, to))}"]


def written_settings(designed: Designed, to: Path) -> list[str]:
    """Write the best plan as settings of tenfold, torchtitan and Megatron-LM."""
    job = designed.job
    texts = {
        "campaign.toml": campaign_sections(job, shipped().memory),
        "torchtitan.toml": torchtitan_toml(job),
        "megatron.txt": megatron_text(job),
    }
    for name, text in texts.items():
        write_text(to / name, text)
    return [f"wrote {', '.join(str(to / name) for name in texts)}"]


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
    joined = choose_exchange(question, inner_seconds, shipped())
    how = joined.exchange
    return [
        f"the {question.sites} sites train in step here and wait {joined.synchronous_exposed:.2f} s of each step for "
        f"each other; semi-synchronous, with {how.inner_steps} inner steps, {how.fragments} fragments and {how.bits} bits, "
        f"they wait {joined.exposed:.2f} s, {joined.speedup:.2f} times as fast (what a token teaches is another question)"
    ]
