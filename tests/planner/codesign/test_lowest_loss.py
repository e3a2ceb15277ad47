"""Models to try: as large as asked, with degrees that divide, inside the allowed range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.planner.codesign.goal import ShapesSection
from tenfold.planner.codesign.lowest_loss import neighbours, recipe_near

SECTION = ShapesSection()


@given(st.floats(5e8, 2e12))
def test_a_recipe_has_about_the_size_that_is_asked_for(parameters: float) -> None:
    shape = recipe_near(parameters, SECTION).shape(SECTION)
    assert float(shape.parameters) == pytest.approx(parameters, rel=0.45)
    assert shape.heads % shape.kv_heads == 0 and shape.mlp_width % 256 == 0 and shape.vocabulary % 128 == 0
    assert shape.width == shape.heads * shape.head_dim


@given(st.floats(2e9, 1e12))
def test_large_models_share_out_over_eight_devices_and_four_stages(parameters: float) -> None:
    shape = recipe_near(parameters, SECTION).shape(SECTION)
    if shape.heads >= 32:
        assert shape.heads % 8 == 0
    if shape.layers >= 24:
        assert shape.layers % 4 == 0


@given(st.floats(5e8, 1e12))
def test_neighbours_keep_to_the_range_and_differ(parameters: float) -> None:
    recipe = recipe_near(parameters, SECTION)
    found = list(neighbours(recipe, SECTION))
    assert any(each != recipe for each in found)
    for each in found:
        assert each.heads % each.kv_group == 0
        assert SECTION.narrowest <= each.heads * each.head_dim / each.layers <= SECTION.widest
        assert each.mlp_ratio in SECTION.mlp_ratios and each.head_dim in SECTION.head_dims


def test_the_range_is_the_users() -> None:
    section = ShapesSection(head_dims=[96], narrowest=30.0, widest=50.0, kv_groups=[1], mlp_ratios=[4.0])
    recipe = recipe_near(1e10, section)
    assert recipe.head_dim == 96 and recipe.kv_group == 1 and recipe.mlp_ratio == 4
    assert 25 < recipe.heads * 96 / recipe.layers < 60
