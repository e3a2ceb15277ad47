"""One answer: a model, its layout and batch, and what is forecast of the run."""

from dataclasses import dataclass
from math import exp, hypot

import numpy as np

from tenfold.planner.codesign.terms import DAY, Terms
from tenfold.planner.codesign.trials import Trial
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.numbers import Array
from tenfold.planner.cost.shape import Shape
from tenfold.planner.cost.step import StepTime
from tenfold.planner.search import Choice

Interval = tuple[float, float]


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
    step_interval: Interval
    tokens_per_second: float
    mfu: float
    days: float
    """Failures included."""
    days_interval: Interval
    """Of the time that `tokens` take; no width where the time is given, then the loss has it."""
    device_days: float
    dollars: float | None
    """None where the cluster has no price."""
    loss: float | None
    """None where loss is not the aim and experts leave no law to forecast it by."""
    loss_interval: Interval | None
    memory: Memory
    memory_bytes: float
    """All parts of `memory`."""
    chance_to_fit: float
    serving_seconds: float | None
    time: StepTime
    extrapolation: bool


def trained_for(trial: Trial, choice: Choice, seconds: float, terms: Terms) -> Design:
    """The design that trains for so many seconds, failures included."""
    tokens = choice.tokens_per_second * terms.goodput(trial.cluster.devices) * seconds
    return _design(trial, choice, tokens, seconds, terms)


def trained_on(trial: Trial, choice: Choice, tokens: float, terms: Terms) -> Design:
    """The design that trains on so many tokens."""
    seconds = tokens / (choice.tokens_per_second * terms.goodput(trial.cluster.devices))
    return _design(trial, choice, tokens, seconds, terms)


def _design(trial: Trial, choice: Choice, tokens: float, seconds: float, terms: Terms) -> Design:
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


def _loss(trial: Trial, choice: Choice, tokens: float, terms: Terms) -> tuple[float, Interval] | tuple[None, None]:
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


def expected_log_loss(trial: Trial, terms: Terms) -> float:
    """Of the best layout when all of the budget is spent; infinite where the model is served too slowly."""
    if not terms.fast_enough(terms.serving_seconds(trial.shape)):
        return float("inf")
    devices = trial.cluster.devices
    tokens = trial.best.tokens_per_second * terms.goodput(devices) * terms.run_seconds(devices)
    return terms.log_loss(float(trial.shape.parameters), tokens, trial.batch_tokens)


def pareto(designs: list[Design], most: int) -> list[Design]:
    """Those that no other beats in loss, days, device-days and memory at once, from the shortest on.

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
    """What is better lower; a loss that is not forecast is the same for all."""
    return (design.loss or 1.0, design.days, design.device_days, design.memory_bytes)


def _is_beaten(number: int, marks: Array) -> bool:
    """Whether another is at least as good in all, and better in one or the same and earlier."""
    mine = marks[number]
    as_good = np.all(marks <= mine, axis=1)
    earlier = np.arange(len(marks)) < number
    return bool(np.any(as_good & (np.any(marks < mine, axis=1) | earlier)))
