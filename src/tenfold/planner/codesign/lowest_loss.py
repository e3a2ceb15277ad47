"""The search for the model with the lowest forecast loss that a budget trains.

Two levels: sizes from far too small to far too large, each with the usual proportions; then neighbours of the best
ones, in every respect, until none is better.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tenfold.core.errors import InputError
from tenfold.planner.codesign.batch import critical_batch
from tenfold.planner.codesign.design import expected_log_loss
from tenfold.planner.codesign.shapes import Recipe, neighbours, recipe_near
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.codesign.trials import Laboratory, Trial, batch_sizes, part_with, parts
from tenfold.planner.hardware import Cluster

SIZES = 9
SMALLEST, LARGEST = 1 / 12, 3.0
"""Of the size that the law likes best at a guessed utilization."""
GUESSED_UTILIZATION = 0.4
COARSE_BATCHES = (0.03, 0.15)
"""Of the critical batch."""
EXPANDED = 3
"""Best points whose neighbours are all looked at."""
TOO_SLOW = "serving.milliseconds_per_token: none of the models tried is served as fast; allow more, or more devices"
NEAR_LIMIT = 1.2
"""Models served up to so much too slowly are tried, to tell what relaxing the limit is worth."""


@dataclass(frozen=True)
class Point:
    """One place of the search."""

    recipe: Recipe
    sequences: int
    devices: int


def search_models(laboratory: Laboratory) -> dict[Point, Trial]:
    """All points that have a layout. Raises InputError when none has, or none is served fast enough."""
    terms = laboratory.terms
    found: dict[Point, Trial] = {}
    for point in _coarse(terms):
        _try(point, laboratory, found)
    expanded: set[Point] = set()
    while not laboratory.exhausted:
        fresh = [point for point in _promising(found, terms) if point not in expanded]
        if not fresh:
            break
        expanded.add(fresh[0])
        for point in _around(fresh[0], terms):
            if laboratory.exhausted:
                break
            _try(point, laboratory, found)
    _check(found, laboratory)
    return found


def _try(point: Point, laboratory: Laboratory, found: dict[Point, Trial]) -> None:
    terms = laboratory.terms
    shape = point.recipe.shape(terms.goal.shapes)
    served = terms.serving_seconds(shape)
    if served is not None and terms.serving is not None and served > NEAR_LIMIT * terms.serving.seconds_per_token:
        laboratory.leave_out("served too slowly")
        return
    trial = laboratory.trial(shape, point.sequences, part_with(terms.cluster, point.devices))
    if trial is not None:
        found[point] = trial


def _promising(found: dict[Point, Trial], terms: Terms) -> list[Point]:
    """The best ones, and the best of each way to share keys and values: another way wants another size."""
    losses = {point: expected_log_loss(trial, terms) for point, trial in found.items()}
    ranked = sorted((point for point in found if np.isfinite(losses[point])), key=lambda point: losses[point])
    of_each = {point.recipe.kv_group: point for point in reversed(ranked)}
    return [*ranked[:EXPANDED], *sorted(of_each.values(), key=lambda point: losses[point])]


def _coarse(terms: Terms) -> Iterator[Point]:
    priced = np.isfinite(terms.dollars)
    for cluster in parts(terms.cluster) if priced else [terms.cluster]:
        flops = _flops(terms, cluster)
        best = _best_size(terms, flops)
        seen: set[Recipe] = set()
        for size in np.geomspace(SMALLEST * best, LARGEST * best, SIZES):
            recipe = recipe_near(float(size), terms.goal.shapes)
            if recipe in seen:
                continue
            seen.add(recipe)
            tokens = flops / (6 * float(recipe.shape(terms.goal.shapes).parameters))
            for sequences in _coarse_batches(terms, cluster, tokens):
                yield Point(recipe, sequences, cluster.devices)


def _coarse_batches(terms: Terms, cluster: Cluster, tokens: float) -> list[int]:
    context = terms.goal.shapes.context
    if terms.goal.batch.tokens is not None:
        return [terms.goal.batch.tokens // context]
    critical = critical_batch(tokens, terms.goal.batch.critical_tokens)
    sizes = [batch_sizes(share * critical, context, cluster, 0) for share in COARSE_BATCHES]
    return sorted({size for several in sizes for size in several})


def _flops(terms: Terms, cluster: Cluster) -> float:
    """That the budget buys, about."""
    peak = cluster.accelerator.peak_flops[terms.goal.precision]
    return GUESSED_UTILIZATION * peak * cluster.devices * terms.run_seconds(cluster.devices)


def _best_size(terms: Terms, flops: float) -> float:
    """Parameters with the lowest loss for so many FLOPs, by the law alone."""
    sizes = np.geomspace(1e6, 1e14, 401)
    tokens = flops / (6 * sizes)
    losses = terms.law.log_loss(sizes, tokens, np.full(sizes.shape, terms.unique))
    return float(sizes[np.argmin(losses)])


def _around(point: Point, terms: Terms) -> Iterator[Point]:
    if terms.goal.batch.tokens is None:
        yield Point(point.recipe, 2 * point.sequences, point.devices)
        if point.sequences % 2 == 0:
            yield Point(point.recipe, point.sequences // 2, point.devices)
    for recipe in neighbours(point.recipe, terms.goal.shapes):
        yield Point(recipe, point.sequences, point.devices)


def _check(found: dict[Point, Trial], laboratory: Laboratory) -> None:
    if not found:
        if "served too slowly" in laboratory.refused:
            raise InputError(TOO_SLOW)
        reason, _ = laboratory.refused.most_common(1)[0]
        raise InputError(f"no model can be trained: {laboratory.reasons[reason]}")
    terms = laboratory.terms
    if not any(np.isfinite(expected_log_loss(trial, terms)) for trial in found.values()):
        raise InputError(TOO_SLOW)
