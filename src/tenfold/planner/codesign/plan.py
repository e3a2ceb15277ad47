"""The search for a goal, and its outcome. First read `search_goal`."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated, Told
from tenfold.planner.codesign.goal import Goal, given_shape, given_tokens
from tenfold.planner.codesign.loss import critical_batch
from tenfold.planner.codesign.lowest_loss import search_models
from tenfold.planner.codesign.terms import Goodput, Terms, terms_of
from tenfold.planner.codesign.trials import (
    Design,
    DesignTrial,
    Laboratory,
    batch_sizes,
    cluster_parts,
    expected_log_loss,
    pareto,
    tokens_of,
    trained_for,
    trained_on,
)
from tenfold.planner.codesign.worth import Relaxation, spent, worth_for_given, worth_for_loss
from tenfold.planner.cost.layout import Shape
from tenfold.planner.export.job import Job
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.notes import site_notes
from tenfold.planner.search.layouts import Choice
from tenfold.planner.search.many_sites import compare_sites
from tenfold.planner.search.regret import ENOUGH, Regret, regret

_SHOWN = 5
FRONT = 12
SHORTER = tuple(0.5 ** (number / 2) for number in range(9))
"""Shares of the budget that the Pareto front is drawn for."""
ALIKE = 0.001
"""Nats between models that nobody could tell apart by a forecast."""
LIKELY = 0.9
"""Chance to fit in memory below which a plan says so."""
RARELY_MENTIONED = 3
AROUND = 0.1
"""Share of the critical batch that batches are tried around."""
DOUBLINGS = 2


@dataclass(frozen=True)
class GoalPlan:
    """The outcome of a search for a goal."""

    goal: Goal
    cluster: Cluster
    law: str
    level: float
    """Coverage of the loss intervals."""
    best: tuple[Design, ...]
    """The best first: of each size (layers and width) where loss is the aim, else layouts and batches."""
    front: tuple[Design, ...]
    """None of them is beaten in loss, days, device-days and memory at once; from the shortest on."""
    layouts: tuple[Choice, ...]
    """The fastest for the first one's model, batch and devices. Its own, as forecast, is the first."""
    regret: Regret
    """Of taking the first of `layouts` untried, and the chance of each that it is the fastest."""
    worth: tuple[Relaxation, ...]
    """Of relaxing each limit by a fifth, the most worthwhile first."""
    notes: tuple[str, ...]
    searches: int
    elapsed: float

    @property
    def binds(self) -> tuple[Relaxation, ...]:
        """The limits that hold the result back."""
        return tuple(one for one in self.worth if one.binds)

    @property
    def job(self) -> Job:
        """The best, to be exported."""
        first = self.best[0]
        return Job(first.shape, first.layout, first.tokens, self.goal.precision, self.cluster)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            "goal": self.goal.model_dump(mode="json", exclude_none=True),
            "cluster": self.cluster.name,
            "law": self.law,
            "loss_interval_level": self.level,
            "best": [asdict(design) for design in self.best],
            "layouts": [_layout_record(*each) for each in zip(self.layouts, self.regret.chances, strict=True)],
            "regret": asdict(self.regret),
            "front": [asdict(design) for design in self.front],
            "binds": [one.kind for one in self.binds],
            "worth": [one.to_dict() for one in self.worth],
            "notes": list(self.notes),
            "searches": self.searches,
            "elapsed_seconds": self.elapsed,
        }


def _layout_record(choice: Choice, chance: float) -> dict[str, Any]:
    """One layout as JSON values; `chance` is the probability that the layout is the fastest of all."""
    return {
        "layout": asdict(choice.layout),
        "step_seconds": choice.seconds,
        "step_interval": (choice.low, choice.high),
        "memory_bytes": float(choice.memory.total),
        "chance": chance,
    }


def search_goal(
    goal: Goal,
    cluster: Cluster,
    calibrated: Calibrated,
    *,
    goodput: Goodput | None = None,
    told: Told = lambda done, most: None,
) -> GoalPlan:
    """Search for the best model, layout and batch. `goodput` takes the place of the goal's share of time that trains.

    Raises InputError, in one line, where the goal cannot be met on this cluster.
    """
    begin = time.perf_counter()
    terms = terms_of(goal, cluster, calibrated, goodput)
    laboratory = Laboratory(terms, goal.most_searches, told)
    if goal.aim == "loss":
        trials = list(search_models(laboratory).values())
        stopped = laboratory.exhausted
        trials.sort(key=lambda trial: expected_log_loss(trial, terms))
        best, front, worth = _for_loss(trials, terms)
    else:
        trials = search_given(laboratory)
        stopped = False
        trials.sort(key=lambda trial: spent(trial, terms))
        best, front, worth = _for_given(trials, terms)
    doubt = regret(trials[0].found)
    return GoalPlan(
        goal=goal,
        cluster=cluster,
        law=terms.law.source,
        level=terms.law.level,
        best=tuple(best),
        front=tuple(front),
        layouts=trials[0].found.best,
        regret=doubt,
        worth=tuple(worth),
        notes=tuple(_notes(best[0], trials, doubt, laboratory, stopped=stopped)),
        searches=laboratory.done,
        elapsed=time.perf_counter() - begin,
    )


def _for_loss(trials: list[DesignTrial], terms: Terms) -> tuple[list[Design], list[Design], list[Relaxation]]:
    served = [trial for trial in trials if np.isfinite(expected_log_loss(trial, terms))]
    best = [_spend(trial, 1.0, terms) for trial in _one_of_each(served)]
    front = [_spend(trial, share, terms) for trial in served for share in SHORTER]
    return best[:_SHOWN], pareto(front, FRONT), worth_for_loss(trials, terms)


def _for_given(trials: list[DesignTrial], terms: Terms) -> tuple[list[Design], list[Design], list[Relaxation]]:
    designs = list(designs_of(trials, terms))
    by_cost = terms.goal.aim == "cost"
    ranked = sorted(designs, key=lambda design: design.device_days if by_cost else design.days)
    return ranked[:_SHOWN], pareto(designs, FRONT), worth_for_given(trials, terms)


def _spend(trial: DesignTrial, share: float, terms: Terms) -> Design:
    return trained_for(trial, trial.best, share * terms.run_seconds(trial.cluster.devices), terms)


def _one_of_each(ranked: list[DesignTrial]) -> Iterator[DesignTrial]:
    """The best of each size: heads and MLP make little difference to what a law of N and D can tell."""
    seen = set()
    for trial in ranked:
        size = (trial.shape.layers, trial.shape.width)
        if size not in seen:
            seen.add(size)
            yield trial


def _notes(
    best: Design, trials: list[DesignTrial], doubt: Regret, laboratory: Laboratory, *, stopped: bool
) -> Iterator[str]:
    terms = laboratory.terms
    if terms.goal.aim == "loss":
        losses = {trial.shape: np.exp(expected_log_loss(trial, terms)) for trial in trials}
        alike = sum(loss < min(losses.values()) + ALIKE for loss in losses.values())
        if alike > 1:
            yield f"forecast within {ALIKE} of the best: {alike} of the models tried; choose on other grounds"
    if best.loss is not None:
        yield from terms.law.notes(best.parameters, best.tokens_worth)
    if best.loss is None and terms.goal.aim != "loss":
        yield "no forecast of loss: the law knows dense models only"
    if best.extrapolation:
        yield "speed is extrapolated: nobody has published a measurement on as many devices"
    if best.chance_to_fit < LIKELY:
        yield f"memory is tight: a chance of {best.chance_to_fit:.0%} to fit, given how far forecasts were off"
    yield (
        f"the first layout, taken untried, is {doubt.first:.1%} slower than the truly fastest on average; the best of "
        f"the first {doubt.tries}, tried, {ENOUGH:.0%} or less"
    )
    sites = compare_sites(trials[0].found.best[0], trials[0].question, terms.calibrated, terms.cluster)
    yield from site_notes(sites) if sites else ()
    if terms.goal.batch.tokens is not None:
        share = best.tokens_worth / best.tokens
        yield f"the given batch makes {best.tokens:.3g} tokens worth {share:.0%} of what small batches would"
    if stopped:
        yield f"stopped after most_searches = {terms.goal.most_searches}: more may find better"
    for reason, count in laboratory.refused.most_common(RARELY_MENTIONED):
        yield f"{count} left out: {laboratory.reasons[reason]}"


def search_given(laboratory: Laboratory) -> list[DesignTrial]:
    """Trials of the model over batches and, where cost is the aim, parts of the cluster. Raises InputError if none."""
    terms = laboratory.terms
    shape = given_model_shape(terms)
    _check_serving(shape, terms)
    found = []
    for cluster in cluster_parts(terms.cluster) if terms.goal.aim == "cost" else [terms.cluster]:
        sizes = _batches(terms, shape, cluster)
        found += [trial for size in sizes if (trial := laboratory.trial(shape, size, cluster)) is not None]
    if not found:
        raise InputError(next(iter(laboratory.reasons.values())))
    return found


def given_model_shape(terms: Terms) -> Shape:
    """Shape of the goal's model. Raises InputError for a goal without one."""
    if terms.goal.model is None:
        raise InputError(f'aim = "{terms.goal.aim}" needs a [model] to train')
    return given_shape(terms.goal.model)


def designs_of(trials: list[DesignTrial], terms: Terms) -> Iterator[Design]:
    """Designs of every layout of every trial, each trained as long as it needs."""
    for trial in trials:
        tokens = tokens_of(trial, terms)
        for choice in trial.found.best:
            yield trained_on(trial, choice, tokens, terms)


def _batches(terms: Terms, shape: Shape, cluster: Cluster) -> list[int]:
    context = float(shape.context)
    if terms.goal.batch.tokens is not None:
        return [int(terms.goal.batch.tokens // context)]
    critical = critical_batch(given_tokens(terms.goal), terms.goal.batch.critical_tokens)
    return batch_sizes(AROUND * critical, context, cluster, DOUBLINGS)


def _check_serving(shape: Shape, terms: Terms) -> None:
    served = terms.serving_seconds(shape)
    if served is None or terms.serving is None or terms.fast_enough(served):
        return
    takes = "does not fit there" if served == float("inf") else f"takes {served * 1e3:.1f} ms"
    raise InputError(
        f"serving.milliseconds_per_token = {terms.serving.seconds_per_token * 1e3:g}: on {terms.serving.devices} "
        f"{terms.serving.accelerator.name} the model {takes}"
    )
