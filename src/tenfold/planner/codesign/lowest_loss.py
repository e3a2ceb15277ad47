"""The search for the model with the lowest forecast loss that a budget trains.

Two levels: sizes from far too small to far too large, each with the usual proportions; then neighbours of the best
ones, in every respect, until none is better. Models to try have sizes that hardware likes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tenfold.core import InputError
from tenfold.planner.codesign.goal import MLP_MULTIPLE, ShapesSection, in_multiples
from tenfold.planner.codesign.loss import critical_batch
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.codesign.trials import (
    DesignTrial,
    Laboratory,
    batch_sizes,
    cluster_parts,
    expected_log_loss,
    part_with,
)
from tenfold.planner.cost.layout import Shape
from tenfold.planner.hardware.cluster import Cluster

USUAL_ASPECT = 112.0
"""Width over layers that the coarse search takes, if it is allowed: between Llama 3's 102 (70B) and 130 (405B)."""
USUAL_HEAD, USUAL_RATIO, USUAL_KV_HEADS = 128, 3.5, 8


@dataclass(frozen=True)
class Recipe:
    """A dense model by the numbers that are searched."""

    heads: int
    head_dim: int
    layers: int
    kv_group: int
    mlp_ratio: float

    def shape(self, section: ShapesSection) -> Shape:
        """The shape in full: MLP in multiples of 256, gated."""
        width = float(self.heads * self.head_dim)
        return Shape(
            layers=float(self.layers),
            width=width,
            heads=float(self.heads),
            kv_heads=float(self.heads // self.kv_group),
            head_dim=float(self.head_dim),
            mlp_width=in_multiples(self.mlp_ratio * width, MLP_MULTIPLE),
            mlp_matrices=3.0,
            vocabulary=in_multiples(section.vocabulary, 128),
            context=float(section.context),
            tied_embeddings=float(section.tied_embeddings),
        )


def recipe_near(parameters: float, section: ShapesSection) -> Recipe:
    """The usual model with about so many parameters."""
    head_dim = min(section.head_dims, key=lambda one: abs(one - USUAL_HEAD))
    aspect = min(max(USUAL_ASPECT, section.narrowest), section.widest)
    ratio = min(section.mlp_ratios, key=lambda one: abs(one - USUAL_RATIO))
    low, high = 1, 4096
    while low < high:
        heads = (low + high) // 2
        recipe = _with_usual(heads, head_dim, aspect, ratio, section)
        low, high = (heads + 1, high) if float(recipe.shape(section).parameters) < parameters else (low, heads)
    return _with_usual(_rounded_heads(low), head_dim, aspect, ratio, section)


def neighbours(recipe: Recipe, section: ShapesSection) -> Iterator[Recipe]:
    """Models that differ in one respect: size, width over layers, heads, keys and values, MLP."""
    step = _head_step(recipe.heads)
    aspect = recipe.heads * recipe.head_dim / recipe.layers
    for heads in (recipe.heads - 2 * step, recipe.heads - step, recipe.heads + step, recipe.heads + 2 * step):
        if heads > 0:
            yield from _allowed(replace(recipe, heads=heads, layers=_layers(heads * recipe.head_dim, aspect)), section)
            yield from _allowed(replace(recipe, heads=heads), section)
    depth_step = _layer_step(recipe.layers)
    for layers in (recipe.layers - depth_step, recipe.layers + depth_step, recipe.layers + 2 * depth_step):
        yield from _allowed(replace(recipe, layers=layers), section)
    for head_dim in section.head_dims:
        heads = recipe.heads * recipe.head_dim // head_dim
        yield from _allowed(replace(recipe, head_dim=head_dim, heads=heads), section)
    for group in section.kv_groups:
        yield from _allowed(replace(recipe, kv_group=group), section)
    for ratio in section.mlp_ratios:
        yield from _allowed(replace(recipe, mlp_ratio=ratio), section)


def _allowed(recipe: Recipe, section: ShapesSection) -> Iterator[Recipe]:
    """The recipe, if heads divide and width over layers lies in range."""
    if recipe.layers < 1 or recipe.heads < 1 or recipe.heads % recipe.kv_group:
        return
    aspect = recipe.heads * recipe.head_dim / recipe.layers
    if section.narrowest <= aspect <= section.widest:
        yield recipe


def _with_usual(heads: int, head_dim: int, aspect: float, ratio: float, section: ShapesSection) -> Recipe:
    return Recipe(heads, head_dim, _layers(heads * head_dim, aspect), _group(heads, section), ratio)


def _group(heads: int, section: ShapesSection) -> int:
    """The allowed one that divides the heads and leaves nearest to eight of keys and values."""
    fitting = [group for group in section.kv_groups if heads % group == 0] or [1]
    return min(fitting, key=lambda group: abs(heads / group - USUAL_KV_HEADS))


def _rounded_heads(heads: int) -> int:
    step = _head_step(heads)
    return max(step, round(heads / step) * step)


def _head_step(heads: int) -> int:
    """Heads in multiples of 8, so that eight devices can share a layer; fewer in small models."""
    return 8 if heads >= 32 else 4 if heads >= 12 else 1


def _layers(width: int, aspect: float) -> int:
    layers = max(1, round(width / aspect))
    step = _layer_step(layers)
    return max(1, round(layers / step) * step)


def _layer_step(layers: int) -> int:
    """Layers in multiples of 4, so that a pipeline can share them out; fewer in small models."""
    return 4 if layers >= 24 else 2 if layers >= 8 else 1


SIZES = 9
_SMALLEST, _LARGEST = 1 / 12, 3.0
"""Of the size that the law likes best at a guessed utilization."""
GUESSED_UTILIZATION = 0.4
COARSE_BATCHES = (0.03, 0.15)
"""Of the critical batch."""
EXPANDED = 3
"""Best points whose neighbours are all looked at."""
SERVED_TOO_SLOWLY = "served too slowly"
TOO_SLOW = "serving.milliseconds_per_token: none of the models tried is served as fast; allow more, or more devices"
NEAR_LIMIT = 1.2
"""Models served up to so much too slowly are tried, to tell what relaxing the limit is worth."""


@dataclass(frozen=True)
class SearchPoint:
    """One place of the search."""

    recipe: Recipe
    sequences: int
    devices: int


def search_models(laboratory: Laboratory) -> dict[SearchPoint, DesignTrial]:
    """All points with a layout. Raises InputError when there are none, or none is served fast enough."""
    terms = laboratory.terms
    found: dict[SearchPoint, DesignTrial] = {}
    for point in _coarse(terms):
        _try(point, laboratory, found)
    expanded: set[SearchPoint] = set()
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


def _try(point: SearchPoint, laboratory: Laboratory, found: dict[SearchPoint, DesignTrial]) -> None:
    terms = laboratory.terms
    shape = point.recipe.shape(terms.goal.shapes)
    served = terms.serving_seconds(shape)
    if served is not None and terms.serving is not None and served > NEAR_LIMIT * terms.serving.seconds_per_token:
        laboratory.too_slow += 1
        laboratory.leave_out(SERVED_TOO_SLOWLY)
        return
    trial = laboratory.trial(shape, point.sequences, part_with(terms.cluster, point.devices))
    if trial is not None:
        found[point] = trial


def _promising(found: dict[SearchPoint, DesignTrial], terms: Terms) -> list[SearchPoint]:
    """The best ones, and the best of each way to share keys and values: another way wants another size."""
    losses = {point: expected_log_loss(trial, terms) for point, trial in found.items()}
    ranked = sorted((point for point in found if np.isfinite(losses[point])), key=lambda point: losses[point])
    of_each = {point.recipe.kv_group: point for point in reversed(ranked)}
    return [*ranked[:EXPANDED], *sorted(of_each.values(), key=lambda point: losses[point])]


def _coarse(terms: Terms) -> Iterator[SearchPoint]:
    priced = np.isfinite(terms.dollars)
    for cluster in cluster_parts(terms.cluster) if priced else [terms.cluster]:
        flops = _flops(terms, cluster)
        best = _best_size(terms, flops)
        seen: set[Recipe] = set()
        for size in np.geomspace(_SMALLEST * best, _LARGEST * best, SIZES):
            recipe = recipe_near(float(size), terms.goal.shapes)
            if recipe in seen:
                continue
            seen.add(recipe)
            tokens = flops / (6 * float(recipe.shape(terms.goal.shapes).parameters))
            for sequences in _coarse_batches(terms, cluster, tokens):
                yield SearchPoint(recipe, sequences, cluster.devices)


def _coarse_batches(terms: Terms, cluster: Cluster, tokens: float) -> list[int]:
    context = terms.goal.shapes.context
    if terms.goal.batch.tokens is not None:
        return [terms.goal.batch.tokens // context]
    critical = critical_batch(tokens, terms.goal.batch.critical_tokens)
    sizes = [batch_sizes(share * critical, context, cluster, 0) for share in COARSE_BATCHES]
    return sorted({size for several in sizes for size in several})


def _flops(terms: Terms, cluster: Cluster) -> float:
    """FLOPs that the budget buys, about."""
    peak = cluster.accelerator.peak_flops[terms.goal.precision]
    return GUESSED_UTILIZATION * peak * cluster.devices * terms.run_seconds(cluster.devices)


def _best_size(terms: Terms, flops: float) -> float:
    """Parameters with the lowest loss for so many FLOPs, by the law alone."""
    sizes = np.geomspace(1e6, 1e14, 401)
    tokens = flops / (6 * sizes)
    losses = terms.law.log_loss(sizes, tokens, np.full(sizes.shape, terms.unique))
    return float(sizes[np.argmin(losses)])


def _around(point: SearchPoint, terms: Terms) -> Iterator[SearchPoint]:
    if terms.goal.batch.tokens is None:
        yield SearchPoint(point.recipe, 2 * point.sequences, point.devices)
        if point.sequences % 2 == 0:
            yield SearchPoint(point.recipe, point.sequences // 2, point.devices)
    for recipe in neighbours(point.recipe, terms.goal.shapes):
        yield SearchPoint(recipe, point.sequences, point.devices)


def _check(found: dict[SearchPoint, DesignTrial], laboratory: Laboratory) -> None:
    if not found:
        if laboratory.too_slow:
            raise InputError(TOO_SLOW)
        reason, _ = laboratory.refused.most_common(1)[0]
        raise InputError(f"no model can be trained: {laboratory.reasons[reason]}")
    terms = laboratory.terms
    if not any(np.isfinite(expected_log_loss(trial, terms)) for trial in found.values()):
        raise InputError(TOO_SLOW)
