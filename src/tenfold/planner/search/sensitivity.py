"""What binds a plan: each property of the machine changed alone, and the layout searched anew."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.hardware.accelerator import Accelerator
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.search.layouts import Choice, search_layouts
from tenfold.planner.search.near import Candidates, near_layouts
from tenfold.planner.search.question import LayoutQuestion

LeverKind = Literal["compute", "memory", "memory bandwidth", "network", "batch"]
"""What a lever relaxes."""
_Change = Callable[[LayoutQuestion, float], LayoutQuestion]
_STEP = 1.2
"""What most properties are multiplied with, and divided by."""


@dataclass(frozen=True)
class LeverEffect:
    """Effect of one change on the time that a given number of tokens takes."""

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
    kind: LeverKind
    better: LeverEffect
    worse: LeverEffect

    @property
    def reach(self) -> float:
        """Days between worse and better: how much the plan hangs on this property."""
        return self.worse.days - self.better.days


def sensitivity(question: LayoutQuestion, calibrated: Calibrated) -> list[MachineLever]:
    """Each lever of the machine and of the batch, those that gain most first.

    Days are those of a fixed number of tokens, so that a larger batch counts by its tokens. Raises InputError where the
    question itself has no answer.
    """
    asked = _Asked(question, calibrated)
    levers = [
        MachineLever(
            knob.what, knob.kind, better=_effect(knob, knob.factor, asked), worse=_effect(knob, 1 / knob.factor, asked)
        )
        for knob in _knobs(question)
    ]
    return sorted(levers, key=lambda lever: lever.better.days)


class _Asked:
    """A question whose layouts are all evaluated once, for every lever."""

    def __init__(self, question: LayoutQuestion, calibrated: Calibrated) -> None:
        self.question, self.calibrated = question, calibrated
        self.near = near_layouts(question, calibrated, memory=_STEP)
        self.base = self.near.best_in(question) or search_layouts(question, calibrated, top=1).best[0]
        self._candidates: dict[float, Candidates] = {}

    def best(self, knob: "_Knob", factor: float) -> Choice | None:
        """The fastest layout once the property is changed; None where nothing fits."""
        changed = knob.change(self.question, factor)
        if knob.kind == "memory":
            return self.near.best_in(changed)
        if knob.kind == "batch":  # other layouts altogether
            return _searched(changed, self.calibrated)
        reach = max(factor, 1 / factor)
        if reach not in self._candidates:
            self._candidates[reach] = self.near.within(reach)
        return self._candidates[reach].best_on(changed)


def _searched(question: LayoutQuestion, calibrated: Calibrated) -> Choice | None:
    try:
        return search_layouts(question, calibrated, top=1).best[0]
    except InputError:
        return None


def effect_line(effect: LeverEffect) -> str:
    """One line: "+20% network bandwidth = -6.0% days"."""
    if math.isinf(effect.days):
        return f"{effect.change} {effect.what}: nothing fits"
    return f"{effect.change} {effect.what} = {effect.days:+.1%} days"


@dataclass(frozen=True)
class _Knob:
    """A property that can be changed, and the factor that makes it better."""

    what: str
    kind: LeverKind
    change: _Change
    factor: float = _STEP


def _effect(knob: _Knob, factor: float, asked: _Asked) -> LeverEffect:
    best = asked.best(knob, factor)
    days = math.inf if best is None else asked.base.tokens_per_second / best.tokens_per_second - 1
    return LeverEffect(knob.what, _said(factor), factor, days, best)


def _said(factor: float) -> str:
    if factor in (2.0, 0.5):
        return "half" if factor < 1 else "twice"
    return f"{factor - 1:+.0%}"


def _knobs(question: LayoutQuestion) -> Iterator[_Knob]:
    """Only what the machine has."""
    cluster, tiers = question.cluster, len(question.cluster.tiers)
    yield _Knob("FLOP/s", "compute", _chip(_flops))
    yield _Knob("memory", "memory", _chip(_memory))
    yield _Knob("memory bandwidth", "memory bandwidth", _chip(_memory_bandwidth))
    if cluster.devices > 1:
        yield _Knob("link bandwidth", "network", _bandwidth(0, 1))
        yield _Knob("latency of collectives", "network", _cluster(_latency), 0.5)
    if tiers > 1:
        yield _Knob("network bandwidth", "network", _bandwidth(1, tiers))
    if tiers > 2:
        yield _Knob("bandwidth of the outermost tier", "network", _bandwidth(tiers - 1, tiers))
    if cluster.wide is not None and question.sites > 1:
        yield _Knob("bandwidth between sites", "network", _cluster(_wide))
    yield _Knob("global batch, each token worth the same", "batch", _batch, 2.0)


def _chip(change: Callable[[Accelerator, float], Accelerator]) -> _Change:
    return _cluster(lambda cluster, factor: replace(cluster, accelerator=change(cluster.accelerator, factor)))


def _cluster(change: Callable[[Cluster, float], Cluster]) -> _Change:
    return lambda question, factor: replace(question, cluster=change(question.cluster, factor))


def _flops(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, peak_flops={precision: peak * factor for precision, peak in chip.peak_flops.items()})


def _memory(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, memory_bytes=chip.memory_bytes * factor)


def _memory_bandwidth(chip: Accelerator, factor: float) -> Accelerator:
    return replace(chip, memory_bandwidth=chip.memory_bandwidth * factor)


def _bandwidth(begin: int, end: int) -> _Change:
    """Change of the bandwidth of the tiers from `begin` up to `end`."""

    def change(cluster: Cluster, factor: float) -> Cluster:
        tiers = tuple(
            replace(tier, bandwidth=tier.bandwidth * factor) if begin <= number < end else tier
            for number, tier in enumerate(cluster.tiers)
        )
        return replace(cluster, tiers=tiers)

    return _cluster(change)


def _latency(cluster: Cluster, factor: float) -> Cluster:
    return replace(cluster, tiers=tuple(replace(tier, latency=tier.latency * factor) for tier in cluster.tiers))


def _wide(cluster: Cluster, factor: float) -> Cluster:
    assert cluster.wide is not None
    return replace(cluster, wide=replace(cluster.wide, bandwidth=cluster.wide.bandwidth * factor))


def _batch(question: LayoutQuestion, factor: float) -> LayoutQuestion:
    return replace(question, sequences=max(1, round(question.sequences * factor)))
