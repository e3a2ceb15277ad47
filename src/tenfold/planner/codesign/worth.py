"""What relaxing a limit is worth, each by a fifth (latency by half): what binds is what pays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp
from typing import Any, Literal

import numpy as np

from tenfold.planner.codesign.terms import Terms
from tenfold.planner.codesign.trials import DesignTrial, expected_log_loss, tokens_of
from tenfold.planner.search.sensitivity import LeverKind, sensitivity

_FACTOR = 1.2
BINDING = 0.005
"""Share of the days, or of the dollars, from which on a limit is said to bind."""
_ROUNDS = 50


LimitKind = Literal["budget", "data", "latency"] | LeverKind


@dataclass(frozen=True)
class Limit:
    """A limit and the change that relaxes it: "+20%" of "memory"."""

    kind: LimitKind
    change: str
    name: str


@dataclass(frozen=True)
class Relaxation:
    """One limit relaxed, all others as they are, layouts chosen anew."""

    limit: Limit
    saved: float | None
    """Share of the days (of the dollars where cost is the aim) in which the same is reached; None for more budget."""
    loss: float | None
    """Where loss is the aim: with all of the budget spent."""
    loss_gain: float | None

    @property
    def kind(self) -> LimitKind:
        """Kind of the limit."""
        return self.limit.kind

    @property
    def what(self) -> str:
        """The change in words: "+20% memory"."""
        return f"{self.limit.change} {self.limit.name}"

    @property
    def binds(self) -> bool:
        """Whether relaxing it pays."""
        return self.saved is None or self.saved >= BINDING

    def to_dict(self) -> dict[str, Any]:
        """The relaxation as JSON values."""
        return {
            "kind": self.kind,
            "what": self.what,
            "saved": self.saved,
            "loss": self.loss,
            "loss_gain": self.loss_gain,
        }


_CHANGE = f"{_FACTOR - 1:+.0%}"
_BATCH = Limit("batch", _CHANGE, "critical batch")


def worth_for_loss(trials: list[DesignTrial], terms: Terms) -> list[Relaxation]:
    """Worth of relaxing each limit, the most worthwhile first. Hardware changes under the best model and batch."""
    best = min(trials, key=lambda trial: expected_log_loss(trial, terms))
    before = expected_log_loss(best, terms)
    found = [_for_loss(limit, trials, relaxed, before) for limit, relaxed in _softer(terms)]
    found += [_for_loss(limit, [changed], terms, before) for limit, changed in _better(best, terms)]
    return sorted(found, key=lambda one: -(one.loss_gain or 0.0))


def worth_for_given(trials: list[DesignTrial], terms: Terms) -> list[Relaxation]:
    """The same where a model is given: `saved` is of the days, or of the dollars."""
    best = min(trials, key=lambda trial: spent(trial, terms))
    least = spent(best, terms)
    found = []
    if terms.goal.batch.tokens is None:
        relaxed = replace(terms, batch_scale=_FACTOR)
        then = min(spent(trial, relaxed) for trial in trials)
        found.append(_saving(_BATCH, least, then))
    found += [_saving(limit, least, spent(changed, terms)) for limit, changed in _better(best, terms)]
    return sorted(found, key=lambda one: -(one.saved or 0.0))


def _saving(limit: Limit, before: float, after: float) -> Relaxation:
    return Relaxation(limit, max(0.0, 1 - after / before), None, None)


def spent(trial: DesignTrial, terms: Terms) -> float:
    """Seconds, or device-seconds, that a given model needs by the best layout."""
    devices = trial.cluster.devices
    seconds = tokens_of(trial, terms) / (trial.best.tokens_per_second * terms.goodput(devices))
    return seconds * (devices if terms.goal.aim == "cost" else 1)


def _for_loss(limit: Limit, trials: list[DesignTrial], relaxed: Terms, before: float) -> Relaxation:
    best = min(trials, key=lambda trial: expected_log_loss(trial, relaxed))
    after = min(before, expected_log_loss(best, relaxed))
    saved = None if limit.kind == "budget" else _saved(best, relaxed, before)
    return Relaxation(limit, saved, exp(after), exp(before) - exp(after))


def _saved(trial: DesignTrial, terms: Terms, log_loss: float) -> float:
    """Share of the budget that is left over when `log_loss` is reached."""
    if expected_log_loss(trial, terms) >= log_loss:
        return 0.0
    low, high = 1e-6, 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        part = replace(terms, seconds=terms.seconds * middle, dollars=terms.dollars * middle)
        low, high = (low, middle) if expected_log_loss(trial, part) <= log_loss else (middle, high)
    return 1 - high


def _softer(terms: Terms) -> Iterator[tuple[Limit, Terms]]:
    """Limits that need no new search."""
    if np.isfinite(terms.seconds):
        yield Limit("budget", _CHANGE, "days"), replace(terms, seconds=terms.seconds * _FACTOR)
    if np.isfinite(terms.dollars):
        yield Limit("budget", _CHANGE, "dollars"), replace(terms, dollars=terms.dollars * _FACTOR)
    if np.isfinite(terms.unique):
        yield Limit("data", _CHANGE, "distinct tokens"), replace(terms, unique=terms.unique * _FACTOR)
    yield _BATCH, replace(terms, batch_scale=_FACTOR)
    if terms.serving is not None:
        slower = replace(terms.serving, seconds_per_token=terms.serving.seconds_per_token * _FACTOR)
        yield Limit("latency", _CHANGE, "time for a served token"), replace(terms, serving=slower)


def _better(trial: DesignTrial, terms: Terms) -> Iterator[tuple[Limit, DesignTrial]]:
    """The trial on hardware that is better in one respect, layouts searched anew."""
    for lever in sensitivity(trial.question, terms.calibrated):
        if lever.kind != "batch" and lever.better.best is not None:
            found = replace(trial.found, best=(lever.better.best,))
            yield Limit(lever.kind, lever.better.change, lever.what), replace(trial, found=found)
