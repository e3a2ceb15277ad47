"""A goal made ready to compute with: limits, law, prices, and how long one more token takes as served.

Relaxing a limit is another `Terms`. Decoding reads all weights that a batch uses and all keys and values once for each
token of every sequence, so it is bound by memory bandwidth until the batch is large (Pope et al., arXiv 2211.05102,
section 2.1).
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.codesign.goal import Goal, ServingSection
from tenfold.planner.codesign.loss import LossLaw, law_of, tokens_needed, tokens_worth
from tenfold.planner.cost.device import Constants
from tenfold.planner.cost.layout import Shape
from tenfold.planner.hardware.accelerator import DAY, HOUR, Accelerator, accelerator
from tenfold.planner.hardware.cluster import Cluster, default_cluster

CACHE_BYTES = 2
ROOM = 0.9
"""Share of the memory that weights and cache may fill."""
REDUCES = 2
"""All-reduces of one layer when it is split over devices."""


@dataclass(frozen=True)
class Serving:
    """Demands on the finished model."""

    accelerator: Accelerator
    devices: int
    batch: int
    context: int
    seconds_per_token: float
    weight_bytes: float
    hop_seconds: float
    """Of one message inside the scale-up domain."""


def serving_of(section: ServingSection) -> Serving:
    """Raises InputError for an unknown accelerator."""
    chip = accelerator(section.accelerator)
    latency = default_cluster(section.accelerator, 1).tiers[0].latency
    return Serving(
        accelerator=chip,
        devices=section.devices,
        batch=section.batch,
        context=section.context,
        seconds_per_token=section.milliseconds_per_token / 1e3,
        weight_bytes=section.weight_bytes,
        hop_seconds=latency,
    )


def decode_seconds(shape: Shape, serving: Serving, constants: Constants) -> float:
    """Seconds of one token for every sequence of the batch; infinite where one copy does not fit on its devices."""
    weights = float(shape.parameters) * serving.weight_bytes
    cache = _cache_bytes(shape, serving)
    if weights + cache > ROOM * serving.devices * serving.accelerator.memory_bytes:
        return float("inf")
    read = _used_parameters(shape, serving.batch) * serving.weight_bytes + cache
    memory = read / (serving.devices * serving.accelerator.memory_bandwidth * float(constants.memory_efficiency))
    return max(memory, _compute_seconds(shape, serving, constants)) + _waiting(shape, serving)


def _cache_bytes(shape: Shape, serving: Serving) -> float:
    of_token = 2 * float(shape.layers) * float(shape.kv_heads) * float(shape.head_dim) * CACHE_BYTES
    return of_token * serving.context * serving.batch


def _used_parameters(shape: Shape, batch: int) -> float:
    """Parameters that one token of each sequence reads: experts that at least one sequence is sent to, evenly drawn."""
    all_but_input = float(shape.parameters) - float(shape.embedding_parameters) * (1 - float(shape.tied_embeddings))
    if not float(shape.experts):
        return all_but_input
    experts = float(shape.experts)
    idle = experts * (1 - float(shape.experts_per_token) / experts) ** batch
    return all_but_input - idle * float(shape.expert_layers) * float(shape.expert_parameters)


def _compute_seconds(shape: Shape, serving: Serving, constants: Constants) -> float:
    peaks = serving.accelerator.peak_flops
    peak = peaks.get("bf16") or peaks.get("fp16") or max(peaks.values())
    flops = 2 * float(shape.active_parameters) * serving.batch
    return flops / (serving.devices * peak * float(constants.matmul_efficiency))


def _waiting(shape: Shape, serving: Serving) -> float:
    """Latency of the all-reduces that splitting over devices needs."""
    stages = 2 * float(np.ceil(np.log2(serving.devices))) if serving.devices > 1 else 0.0
    return REDUCES * float(shape.layers) * stages * serving.hop_seconds


Goodput = Callable[[int], float]
"""Share of the time that trains, on so many devices."""


@dataclass(frozen=True)
class Terms:
    """A goal with its limits. Limits that were not given are infinite."""

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
        """Seconds of one token as served; None where the goal does not ask."""
        if self.serving is None:
            return None
        constants = self.calibrated.constants(chip=self.serving.accelerator, experts=float(shape.experts) > 0)
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
