"""What binds a plan: each property of the machine changed alone, and the layout searched anew."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.hardware.accelerator import Accelerator
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.search.layouts import Choice, search_layouts
from tenfold.planner.search.question import LayoutQuestion

_STEP = 1.2
"""What most properties are multiplied with, and divided by."""


@dataclass(frozen=True)
class LeverEffect:
    """What one change does to the time that a given number of tokens takes."""

    what: str
    change: str
    """As people say it: "+20%", "x2", "half"."""
    factor: float
    days: float
    """Relative change: −0.06 is 6% fewer days. Infinite where nothing fits any more."""
    best: Choice | None
    """The fastest layout after the change; None where nothing fits."""


@dataclass(frozen=True)
class MachineLever:
    """A property, made better and worse."""

    what: str
    better: LeverEffect
    worse: LeverEffect

    @property
    def reach(self) -> float:
        """Days between worse and better: how much the plan hangs on this property."""
        return self.worse.days - self.better.days


QuestionChange = Callable[[LayoutQuestion, float], LayoutQuestion]


def sensitivity(question: LayoutQuestion, calibrated: Calibrated) -> list[MachineLever]:
    """Each lever of the machine and of the batch, those that gain most first.

    Days are those of a fixed number of tokens, so that a larger batch counts by its tokens. Raises InputError where the
    question itself has no answer.
    """
    base = search_layouts(question, calibrated, top=1).best[0]
    levers = [_lever(what, change, factor, question, base, calibrated) for what, change, factor in _levers(question)]
    return sorted(levers, key=lambda lever: lever.better.days)


def effect_line(effect: LeverEffect) -> str:
    """One line: "+20% network bandwidth = -6.0% days"."""
    if math.isinf(effect.days):
        return f"{effect.change} {effect.what}: nothing fits"
    return f"{effect.change} {effect.what} = {effect.days:+.1%} days"


def _lever(
    what: str, change: QuestionChange, factor: float, question: LayoutQuestion, base: Choice, calibrated: Calibrated
) -> MachineLever:
    return MachineLever(
        what,
        better=_effect(what, change, factor, question, base, calibrated),
        worse=_effect(what, change, 1 / factor, question, base, calibrated),
    )


def _effect(
    what: str, change: QuestionChange, factor: float, question: LayoutQuestion, base: Choice, calibrated: Calibrated
) -> LeverEffect:
    try:
        best = search_layouts(change(question, factor), calibrated, top=1).best[0]
    except InputError:
        return LeverEffect(what, _said(factor), factor, math.inf, None)
    return LeverEffect(what, _said(factor), factor, base.tokens_per_second / best.tokens_per_second - 1, best)


def _said(factor: float) -> str:
    if factor in (2.0, 0.5):
        return "half" if factor < 1 else "twice"
    return f"{factor - 1:+.0%}"


def _levers(question: LayoutQuestion) -> list[tuple[str, QuestionChange, float]]:
    """Name, change, and the factor that makes it better. Only what the machine has."""
    cluster = question.cluster
    levers: list[tuple[str, QuestionChange, float]] = [
        ("FLOP/s", _chip(_flops), _STEP),
        ("memory", _chip(_memory), _STEP),
        ("memory bandwidth", _chip(_memory_bandwidth), _STEP),
    ]
    if cluster.devices > 1:
        levers += [
            ("link bandwidth", _cluster(lambda cluster, factor: _bandwidth(cluster, factor, 0, 1)), _STEP),
            ("latency of collectives", _cluster(_latency), 0.5),
        ]
    if len(cluster.tiers) > 1:
        end = len(cluster.tiers)
        levers.append(
            ("network bandwidth", _cluster(lambda cluster, factor: _bandwidth(cluster, factor, 1, end)), _STEP)
        )
    if len(cluster.tiers) > 2:
        levers.append(("bandwidth of the outermost tier", _cluster(_outermost), _STEP))
    if cluster.wide is not None and question.sites > 1:
        levers.append(("bandwidth between sites", _cluster(_wide), _STEP))
    levers.append(("global batch, each token worth the same", _batch, 2.0))
    return levers


def _chip(change: Callable[[Accelerator, float], Accelerator]) -> QuestionChange:
    return _cluster(lambda cluster, factor: replace(cluster, accelerator=change(cluster.accelerator, factor)))


def _cluster(change: Callable[[Cluster, float], Cluster]) -> QuestionChange:
    return lambda question, factor: replace(question, cluster=change(question.cluster, factor))


def _flops(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, peak_flops={precision: peak * factor for precision, peak in chip.peak_flops.items()})


def _memory(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, memory_bytes=chip.memory_bytes * factor)


def _memory_bandwidth(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, memory_bandwidth=chip.memory_bandwidth * factor)


def _bandwidth(cluster: Cluster, factor: float, begin: int, end: int) -> Cluster:
    tiers = tuple(
        replace(tier, bandwidth=tier.bandwidth * factor) if begin <= number < end else tier
        for number, tier in enumerate(cluster.tiers)
    )
    return replace(cluster, tiers=tiers)


def _outermost(cluster: Cluster, factor: float) -> Cluster:
    return _bandwidth(cluster, factor, len(cluster.tiers) - 1, len(cluster.tiers))


def _latency(cluster: Cluster, factor: float) -> Cluster:
    return replace(cluster, tiers=tuple(replace(tier, latency=tier.latency * factor) for tier in cluster.tiers))


def _wide(cluster: Cluster, factor: float) -> Cluster:
    assert cluster.wide is not None
    return replace(cluster, wide=replace(cluster.wide, bandwidth=cluster.wide.bandwidth * factor))


def _batch(question: LayoutQuestion, factor: float) -> LayoutQuestion:
    return replace(question, sequences=max(1, round(question.sequences * factor)))
