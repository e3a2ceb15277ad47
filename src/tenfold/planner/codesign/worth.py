"""What relaxing a limit is worth, each by a fifth: what binds is what pays."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import exp

import numpy as np

from tenfold.planner.codesign.design import expected_log_loss
from tenfold.planner.codesign.given_model import tokens_of
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.codesign.trials import Laboratory, Trial
from tenfold.planner.hardware import Cluster

FACTOR = 1.2
LOOKED_AT = 3
"""Best trials whose layouts are searched again on changed hardware."""
BINDING = 0.005
"""Share of the days, or of the dollars, from which on a limit is said to bind."""
ROUNDS = 50


@dataclass(frozen=True)
class Relaxation:
    """One limit relaxed, all others as they are, layouts chosen anew."""

    kind: str
    """budget, data, batch, latency, compute, memory, memory bandwidth, network."""
    what: str
    saved: float | None
    """Share of the days (of the dollars where cost is the aim) in which the same is reached; None for more budget."""
    loss: float | None
    """Where loss is the aim: with all of the budget spent."""
    loss_gain: float | None

    @property
    def binds(self) -> bool:
        """Whether relaxing it pays."""
        return self.saved is None or self.saved >= BINDING


def worth_for_loss(trials: list[Trial], laboratory: Laboratory) -> list[Relaxation]:
    """Of every limit there is, the most worthwhile first."""
    terms = laboratory.terms
    ranked = sorted(trials, key=lambda trial: expected_log_loss(trial, terms))
    best = expected_log_loss(ranked[0], terms)
    found = [_for_loss(kind, what, trials, relaxed, best) for kind, what, relaxed in _softer(terms)]
    for kind, what, change in _better(ranked[0].cluster):
        again = _again(ranked[:LOOKED_AT], laboratory, change)
        found.append(_for_loss(kind, what, again, terms, best))
    return sorted(found, key=lambda one: -(one.loss_gain or 0.0))


def worth_for_given(trials: list[Trial], laboratory: Laboratory) -> list[Relaxation]:
    """The same where a model is given: `saved` is of the days, or of the dollars."""
    terms = laboratory.terms
    ranked = sorted(trials, key=lambda trial: _spent(trial, terms))
    least = _spent(ranked[0], terms)
    found = []
    if terms.goal.batch.tokens is None:
        relaxed = replace(terms, batch_scale=FACTOR)
        least_then = min(_spent(trial, relaxed) for trial in trials)
        found.append(_saving("batch", "+20% critical batch", least, least_then))
    for kind, what, change in _better(ranked[0].cluster):
        again = _again(ranked[:LOOKED_AT], laboratory, change)
        found.append(_saving(kind, what, least, min([_spent(trial, terms) for trial in again], default=least)))
    return sorted(found, key=lambda one: -(one.saved or 0.0))


def _saving(kind: str, what: str, before: float, after: float) -> Relaxation:
    return Relaxation(kind, what, max(0.0, 1 - after / before), None, None)


def _spent(trial: Trial, terms: Terms) -> float:
    """Seconds, or device-seconds, that the model needs."""
    devices = trial.cluster.devices
    seconds = tokens_of(trial, terms) / (trial.best.tokens_per_second * terms.goodput(devices))
    return seconds * (devices if terms.goal.aim == "cost" else 1)


def _for_loss(kind: str, what: str, trials: list[Trial], relaxed: Terms, before: float) -> Relaxation:
    if not trials:
        return Relaxation(kind, what, 0.0, exp(before), 0.0)
    best = min(trials, key=lambda trial: expected_log_loss(trial, relaxed))
    after = min(before, expected_log_loss(best, relaxed))
    saved = None if kind == "budget" else _saved(best, relaxed, before)
    return Relaxation(kind, what, saved, exp(after), exp(before) - exp(after))


def _saved(trial: Trial, terms: Terms, log_loss: float) -> float:
    """Share of the budget that is left over when `log_loss` is reached."""
    if expected_log_loss(trial, terms) >= log_loss:
        return 0.0
    low, high = 1e-6, 1.0
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        part = replace(terms, seconds=terms.seconds * middle, dollars=terms.dollars * middle)
        low, high = (low, middle) if expected_log_loss(trial, part) <= log_loss else (middle, high)
    return 1 - high


def _softer(terms: Terms) -> Iterator[tuple[str, str, Terms]]:
    """Limits that need no new search."""
    if np.isfinite(terms.seconds):
        yield "budget", "+20% days", replace(terms, seconds=terms.seconds * FACTOR)
    if np.isfinite(terms.dollars):
        yield "budget", "+20% dollars", replace(terms, dollars=terms.dollars * FACTOR)
    if np.isfinite(terms.unique):
        yield "data", "+20% distinct tokens", replace(terms, unique=terms.unique * FACTOR)
    yield "batch", "+20% critical batch", replace(terms, batch_scale=FACTOR)
    if terms.serving is not None:
        slower = replace(terms.serving, seconds_per_token=terms.serving.seconds_per_token * FACTOR)
        yield "latency", "+20% time for a served token", replace(terms, serving=slower)


def _again(trials: list[Trial], laboratory: Laboratory, change: Callable[[Cluster], Cluster]) -> list[Trial]:
    again = [laboratory.trial(trial.shape, trial.sequences, change(trial.cluster)) for trial in trials]
    return [trial for trial in again if trial is not None]


def _better(cluster: Cluster) -> Iterator[tuple[str, str, Callable[[Cluster], Cluster]]]:
    """Hardware that is a fifth better in one respect."""
    yield "compute", "+20% FLOP/s", _more_flops
    yield "memory", "+20% memory", _more_memory
    yield "memory bandwidth", "+20% memory bandwidth", _more_memory_bandwidth
    if cluster.tiers[0].devices > 1:
        yield "network", f"+20% {cluster.tiers[0].name} bandwidth", lambda one: _wider(one, 0, 1)
    if len(cluster.tiers) > 1:
        yield "network", "+20% NIC bandwidth", lambda one: _wider(one, 1, len(one.tiers))
    if cluster.wide is not None:
        yield "network", "+20% bandwidth between sites", _wider_between


def _more_flops(cluster: Cluster) -> Cluster:
    peaks = {precision: peak * FACTOR for precision, peak in cluster.accelerator.peak_flops.items()}
    return replace(cluster, accelerator=replace(cluster.accelerator, peak_flops=peaks))


def _more_memory(cluster: Cluster) -> Cluster:
    more = cluster.accelerator.memory_bytes * FACTOR
    return replace(cluster, accelerator=replace(cluster.accelerator, memory_bytes=more))


def _more_memory_bandwidth(cluster: Cluster) -> Cluster:
    more = cluster.accelerator.memory_bandwidth * FACTOR
    return replace(cluster, accelerator=replace(cluster.accelerator, memory_bandwidth=more))


def _wider(cluster: Cluster, first: int, last: int) -> Cluster:
    tiers = tuple(
        replace(tier, bandwidth=tier.bandwidth * FACTOR) if first <= number < last else tier
        for number, tier in enumerate(cluster.tiers)
    )
    return replace(cluster, tiers=tiers)


def _wider_between(cluster: Cluster) -> Cluster:
    if cluster.wide is None:
        return cluster
    return replace(cluster, wide=replace(cluster.wide, bandwidth=cluster.wide.bandwidth * FACTOR))
