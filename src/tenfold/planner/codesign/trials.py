"""Trials: a model, a batch and some devices, with the fastest layouts found for them; and the designs they make."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from math import exp, hypot

import numpy as np

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Told
from tenfold.planner.codesign.goal import given_tokens
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.cost.layout import Array, Layout, Shape
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.step import StepTime
from tenfold.planner.hardware.accelerator import DAY
from tenfold.planner.hardware.cluster import Cluster, fewer_devices
from tenfold.planner.search.layouts import Choice, FoundLayouts
from tenfold.planner.search.question import LayoutQuestion
from tenfold.planner.search.usable import search_usable

TOP = 5
HALVINGS = 3
"""Parts of a cluster that are tried where money counts: the whole, a half, a quarter, an eighth."""


@dataclass(frozen=True)
class DesignTrial:
    """One of them, and what its search found."""

    question: LayoutQuestion
    found: FoundLayouts

    @property
    def shape(self) -> Shape:
        """Shape of the model."""
        return self.question.shape

    @property
    def cluster(self) -> Cluster:
        """Cluster of the devices in use."""
        return self.question.cluster

    @property
    def best(self) -> Choice:
        """The fastest layout found."""
        return self.found.best[0]

    @property
    def batch_tokens(self) -> float:
        """Tokens of one step."""
        return self.question.tokens


@dataclass
class Laboratory:
    """Runs trials and remembers them."""

    terms: Terms
    most: int
    told: Told
    done: int = 0
    too_slow: int = 0
    """Models left out because they are served too slowly."""
    refused: Counter[str] = field(default_factory=Counter)
    """Why models were left out, in short."""
    reasons: dict[str, str] = field(default_factory=dict)
    """One of the messages behind each."""
    known: dict[tuple[Shape, int, str], DesignTrial | None] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether all searches that are allowed were made."""
        return self.done >= self.most

    def trial(self, shape: Shape, sequences: int, cluster: Cluster) -> DesignTrial | None:
        """The fastest layouts; None where nothing fits."""
        key = (shape, sequences, repr(cluster))
        if key not in self.known:
            self.known[key] = self._search(shape, sequences, cluster)
            self.done += 1
            self.told(self.done, max(self.most, self.done))
        return self.known[key]

    def leave_out(self, reason: str) -> None:
        """Note why a model was not tried or has no layout."""
        short = reason.partition(":")[0]
        self.refused[short] += 1
        self.reasons.setdefault(short, reason)

    def _search(self, shape: Shape, sequences: int, cluster: Cluster) -> DesignTrial | None:
        goal = self.terms.goal
        question = LayoutQuestion(shape, cluster, sequences, precision=goal.precision, framework=goal.framework)
        try:
            return DesignTrial(*search_usable(question, self.terms.calibrated, top=TOP))
        except InputError as error:
            self.leave_out(str(error))
            return None


def cluster_parts(cluster: Cluster) -> list[Cluster]:
    """The whole, and halves of it down to an eighth as long as they are whole hosts. Several sites stay together."""
    found = [cluster]
    for _ in range(HALVINGS):
        half = found[-1].devices // 2
        if len(cluster.sites) > 1 or found[-1].devices % 2 or half % cluster.node_devices:
            break
        found.append(replace(fewer_devices(found[-1], half), idle=cluster.idle))
    return found


def part_with(cluster: Cluster, devices: int) -> Cluster:
    """The one of `cluster_parts` that has so many devices, or the cluster with the others idle."""
    parts = {part.devices: part for part in cluster_parts(cluster)}
    return parts[devices] if devices in parts else fewer_devices(cluster, devices)


def batch_sizes(target: float, context: float, cluster: Cluster, doublings: int) -> list[int]:
    """Sequences of one step around `target` tokens: powers of two times what devices and sites share out."""
    base = math.lcm(_odd_part(cluster.devices), len(cluster.sites))
    exponent = round(np.log2(max(target / context / base, 1.0)))
    return [base * 2 ** max(exponent + shift, 0) for shift in range(-doublings, doublings + 1) if exponent + shift >= 0]


def _odd_part(number: int) -> int:
    return number // (number & -number)


_Interval = tuple[float, float]


@dataclass(frozen=True)
class Design:
    """Intervals are those of the calibration (90%); that of the loss has the law's in it, at the law's level."""

    shape: Shape
    layout: Layout
    devices: int
    parameters: float
    active_parameters: float
    sequences: int
    batch_tokens: float
    tokens: float
    """Trained on."""
    tokens_worth: float
    """What they would be with batches far below the critical one."""
    step_seconds: float
    step_interval: _Interval
    tokens_per_second: float
    mfu: float
    days: float
    """Failures included."""
    days_interval: _Interval
    """Of the time that `tokens` take; no width where the time is given, then the loss has it."""
    device_days: float
    dollars: float | None
    """None where the cluster has no price."""
    loss: float | None
    """None where loss is not the aim and experts leave no law to forecast it by."""
    loss_interval: _Interval | None
    memory: Memory
    memory_bytes: float
    """All parts of `memory`."""
    chance_to_fit: float
    serving_seconds: float | None
    time: StepTime
    extrapolation: bool


def tokens_of(trial: DesignTrial, terms: Terms) -> float:
    """Training tokens: exactly the goal's where the batch is given, else as many as its size needs."""
    tokens = given_tokens(terms.goal)
    return tokens if terms.goal.batch.tokens is not None else terms.needed(tokens, trial.batch_tokens)


def trained_for(trial: DesignTrial, choice: Choice, seconds: float, terms: Terms) -> Design:
    """The design that trains for so many seconds, failures included."""
    tokens = choice.tokens_per_second * terms.goodput(trial.cluster.devices) * seconds
    return _design(trial, choice, tokens, seconds, terms)


def trained_on(trial: DesignTrial, choice: Choice, tokens: float, terms: Terms) -> Design:
    """The design that trains on so many tokens."""
    seconds = tokens / (choice.tokens_per_second * terms.goodput(trial.cluster.devices))
    return _design(trial, choice, tokens, seconds, terms)


def _design(trial: DesignTrial, choice: Choice, tokens: float, seconds: float, terms: Terms) -> Design:
    shape, devices = trial.shape, trial.cluster.devices
    loss, interval = _loss(trial, choice, tokens, terms)
    given = terms.goal.aim == "loss"
    shorter, longer = (1.0, 1.0) if given else (choice.low / choice.seconds, choice.high / choice.seconds)
    price = terms.price * devices * seconds
    return Design(
        shape=shape,
        layout=choice.layout,
        devices=devices,
        parameters=float(shape.parameters),
        active_parameters=float(shape.active_parameters),
        sequences=trial.question.sequences,
        batch_tokens=trial.batch_tokens,
        tokens=tokens,
        tokens_worth=terms.worth(tokens, trial.batch_tokens),
        step_seconds=choice.seconds,
        step_interval=(choice.low, choice.high),
        tokens_per_second=choice.tokens_per_second,
        mfu=choice.mfu,
        days=seconds / DAY,
        days_interval=(seconds / DAY * shorter, seconds / DAY * longer),
        device_days=seconds / DAY * devices,
        dollars=price if terms.price else None,
        loss=loss,
        loss_interval=interval,
        memory=choice.memory,
        memory_bytes=float(choice.memory.total),
        chance_to_fit=choice.chance_to_fit,
        serving_seconds=terms.serving_seconds(shape),
        time=choice.time,
        extrapolation=choice.extrapolation,
    )


def _loss(
    trial: DesignTrial, choice: Choice, tokens: float, terms: Terms
) -> tuple[float, _Interval] | tuple[None, None]:
    """Expected loss, and its interval: the law's, and where time is given that of how many tokens it trains."""
    shape = trial.shape
    if float(shape.experts):
        return None, None
    parameters, batch = float(shape.parameters), trial.batch_tokens
    middle = terms.log_loss(parameters, tokens, batch)
    width = terms.half_width(parameters, tokens, batch)
    slower = faster = 0.0
    if terms.goal.aim == "loss":
        slower = terms.log_loss(parameters, tokens * choice.seconds / choice.high, batch) - middle
        faster = middle - terms.log_loss(parameters, tokens * choice.seconds / choice.low, batch)
    return exp(middle), (exp(middle - hypot(width, faster)), exp(middle + hypot(width, slower)))


def expected_log_loss(trial: DesignTrial, terms: Terms) -> float:
    """Expected ln L of the best layout, all of the budget spent; infinite where the model is served too slowly."""
    if not terms.fast_enough(terms.serving_seconds(trial.shape)):
        return float("inf")
    devices = trial.cluster.devices
    tokens = trial.best.tokens_per_second * terms.goodput(devices) * terms.run_seconds(devices)
    return terms.log_loss(float(trial.shape.parameters), tokens, trial.batch_tokens)


def pareto(designs: list[Design], most: int) -> list[Design]:
    """Designs that no other beats in loss, days, device-days and memory at once, from the shortest on.

    At most `most`: the best in loss, or the shortest, and from there always the one that is farthest from those taken.
    """
    marks = np.array([_marks(one) for one in designs])
    kept = [number for number in range(len(designs)) if not _is_beaten(number, marks)]
    spread = np.log(marks[kept])
    spread = (spread - spread.min(axis=0)) / np.maximum(np.ptp(spread, axis=0), 1e-9)
    chosen = [int(np.lexsort((spread[:, 1], spread[:, 0]))[0])]
    while len(chosen) < min(most, len(kept)):
        away = np.min([np.sum((spread - spread[one]) ** 2, axis=1) for one in chosen], axis=0)
        chosen.append(int(np.argmax(away)))
    return sorted((designs[kept[one]] for one in chosen), key=lambda one: (one.days, one.device_days, one.memory_bytes))


def _marks(design: Design) -> tuple[float, ...]:
    """Marks of a design, better lower; a loss that is not forecast is the same for all."""
    return (design.loss or 1.0, design.days, design.device_days, design.memory_bytes)


def _is_beaten(number: int, marks: Array) -> bool:
    """Whether another is at least as good in all, and better in one or the same and earlier."""
    mine = marks[number]
    as_good = np.all(marks <= mine, axis=1)
    earlier = np.arange(len(marks)) < number
    return bool(np.any(as_good & (np.any(marks < mine, axis=1) | earlier)))
