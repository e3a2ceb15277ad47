"""From what the planner's rooms answer to lines for people, pages and files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from tenfold.campaign.plan.build import asked_of, front_of, planned
from tenfold.campaign.plan.fleets import goodput_of
from tenfold.core.errors import InputError
from tenfold.core.files import write_text
from tenfold.pages.plan import Lever, Plan, Sensitivity, write_plan
from tenfold.pages.plan_files import NO_RENDERER, write_pictures
from tenfold.planner.calibration import shipped
from tenfold.planner.codesign import Design, part_with
from tenfold.planner.codesign import Plan as Designed
from tenfold.planner.export import campaign_sections, megatron_text, torchtitan_toml
from tenfold.planner.fleet import FleetRun
from tenfold.planner.hardware import Cluster
from tenfold.planner.search import Choice, Question, Regret, assess, choose_exchange
from tenfold.planner.search import Lever as SearchedLever

OWN = "tenfold"
"""The framework that a campaign trains with."""
LEAST_GOODPUT = 0.001
SMALLEST_WORTH = 0.0005
DAY = 86_400


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


def page_of(designed: Designed, cluster: Cluster) -> Plan:
    """A co-designed plan as its page shows it: layouts of the best model, the front of all, what relaxing is worth."""
    first, goal = designed.best[0], designed.goal
    used = cluster if first.devices == cluster.devices else part_with(cluster, first.devices)
    question = Question(first.shape, used, first.sequences, goal.precision, goal.framework)
    return Plan(
        asked=asked_of(used, _name(first), first.shape, first.sequences, goal.precision),
        layouts=tuple(planned(assess(question, each.layout, shipped())) for each in designed.layouts),
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
    """For several sites: what letting each train on its own, as `[learners]` does, saves over lock-step."""
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
