"""Models to try: sizes that hardware likes, and the neighbours of a model."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tenfold.planner.codesign.goal import ShapesSection
from tenfold.planner.codesign.load import MLP_MULTIPLE, in_multiples
from tenfold.planner.cost.shape import Shape

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
        """In full: MLP in multiples of 256, gated."""
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
