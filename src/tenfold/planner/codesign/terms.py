"""A goal made ready to compute with: limits, law, prices. Relaxing a limit is another `Terms`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tenfold.core.errors import InputError
from tenfold.planner.calibration import Calibrated
from tenfold.planner.codesign.batch import tokens_needed, tokens_worth
from tenfold.planner.codesign.goal import Goal
from tenfold.planner.codesign.loss import LossLaw, law_of
from tenfold.planner.codesign.serving import Serving, decode_seconds, serving_of
from tenfold.planner.cost.shape import Shape
from tenfold.planner.hardware import Cluster

DAY, HOUR = 86_400.0, 3_600.0
Goodput = Callable[[int], float]
"""Share of the time that trains, on so many devices."""


@dataclass(frozen=True)
class Terms:
    """What is asked and what limits it. Limits that were not given are infinite."""

    goal: Goal
    cluster: Cluster
    calibrated: Calibrated
    law: LossLaw
    serving: Serving | None
    goodput: Goodput
    seconds: float
    dollars: float
    unique: float
    batch_scale: float = 1.0
    """Critical batch over what its law says."""

    @property
    def price(self) -> float:
        """Dollars of one device for a second."""
        return self.cluster.price_per_device_hour / HOUR

    def run_seconds(self, devices: int) -> float:
        """Seconds that the budget allows on so many devices."""
        affordable = self.dollars / (self.price * devices) if np.isfinite(self.dollars) else np.inf
        return float(min(self.seconds, affordable))

    def worth(self, tokens: float, batch: float) -> float:
        """Tokens that a small batch would need for the same."""
        return tokens_worth(tokens, batch / self.batch_scale, self.goal.batch.critical_tokens)

    def needed(self, tokens: float, batch: float) -> float:
        """Tokens that this batch needs for what `tokens` do with a small one."""
        return tokens_needed(tokens, batch / self.batch_scale, self.goal.batch.critical_tokens)

    def log_loss(self, parameters: float, tokens: float, batch: float) -> float:
        """Expected ln L after `tokens` in such batches. What repeats is counted before the batch discounts it."""
        share = self.worth(tokens, batch) / tokens
        return float(self.law.log_loss(np.array(parameters), np.array(tokens * share), np.array(self.unique * share)))

    def half_width(self, parameters: float, tokens: float, batch: float) -> float:
        """Half-width of the law's interval of ln L."""
        share = self.worth(tokens, batch) / tokens
        return float(self.law.half_width(np.array(parameters), np.array(tokens * share), np.array(self.unique * share)))

    def serving_seconds(self, shape: Shape) -> float | None:
        """Of one token as served; None where the goal does not ask."""
        if self.serving is None:
            return None
        constants = self.calibrated.constants(
            accelerator=self.serving.accelerator.name, experts=float(shape.experts) > 0
        )
        return decode_seconds(shape, self.serving, constants)

    def fast_enough(self, seconds: float | None) -> bool:
        """Whether a model is served within the limit."""
        return seconds is None or self.serving is None or seconds <= self.serving.seconds_per_token


def terms_of(goal: Goal, cluster: Cluster, calibrated: Calibrated, goodput: Goodput | None) -> Terms:
    """Raises InputError where the cluster lacks what the goal needs."""
    budget = goal.budget
    days = budget.days if budget else None
    dollars = budget.dollars if budget else None
    if not cluster.price_per_device_hour and (dollars is not None or goal.aim == "cost"):
        what = "budget.dollars" if dollars is not None else 'aim = "cost"'
        raise InputError(f"{what}: {cluster.name} has no price_dollars_per_device_hour")
    if goal.precision not in cluster.accelerator.peak_flops:
        known = ", ".join(cluster.accelerator.peak_flops)
        raise InputError(f"precision = {goal.precision!r}: {cluster.accelerator.name} has a published peak in {known}")
    _check_framework(goal.framework, calibrated)
    share = goal.goodput_percent / 100
    return Terms(
        goal=goal,
        cluster=cluster,
        calibrated=calibrated,
        law=law_of(goal.law.table),
        serving=serving_of(goal.serving) if goal.serving else None,
        goodput=goodput or (lambda devices: share),
        seconds=days * DAY if days is not None else np.inf,
        dollars=dollars if dollars is not None else np.inf,
        unique=budget.unique_tokens if budget and budget.unique_tokens is not None else np.inf,
    )


def _check_framework(name: str, calibrated: Calibrated) -> None:
    known = calibrated.frameworks()
    if name and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"measured are {', '.join(known)}; empty for none of them"
        raise InputError(f"framework = {name!r}: {hint}")
