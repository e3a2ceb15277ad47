"""Fragments, rounding and the outer step: what decides which weights come out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold.config.learners import Precision
from tenfold.core.errors import InputError
from tenfold.learners.outer import (
    FragmentState,
    OuterOptimizer,
    apply_difference,
    cut_model,
    decode,
    encode,
    encoded_size,
    spans_of_rank,
)
from tenfold.learners.syncer.merge_policy import (
    not_finite,
)

PRECISIONS: list[Precision] = ["float32", "bf16", "int8", "int4"]
SHAPES = {"embed": [50, 8], "a.weight": [8, 8], "b.weight": [24, 8], "norm": [8], "scale": []}


def test_fragments_hold_every_tensor_once_and_are_about_equal() -> None:
    fragments = cut_model(SHAPES, 3)
    names = [name for fragment in fragments for name in fragment.names]
    assert sorted(names) == sorted(SHAPES)
    assert fragments == cut_model(dict(reversed(SHAPES.items())), 3)  # not a matter of order
    assert max(f.size for f in fragments) == 400  # the embedding alone
    with pytest.raises(InputError, match="at most that many"):
        cut_model(SHAPES, 6)


@given(ranks=st.integers(1, 9), count=st.integers(1, 5))
def test_the_ranks_of_a_learner_hold_every_element_once(ranks: int, count: int) -> None:
    for fragment in cut_model(SHAPES, count):
        held = [i for r in range(ranks) for a, b in spans_of_rank(fragment, SHAPES, r, ranks) for i in range(a, b)]
        assert sorted(held) == list(range(fragment.size))


@pytest.mark.parametrize("precision", PRECISIONS)
@given(size=st.integers(0, 300), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_what_rounding_leaves_out_is_small_and_the_bytes_are_as_many_as_said(
    precision: Precision, size: int, scale: float, seed: int
) -> None:
    vector = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * scale
    data = encode(vector, precision)
    assert len(data) == encoded_size(size, precision)
    again = decode(data, size, precision)
    step = {"float32": 0.0, "bf16": 2**-8, "int8": 0.5 / 127 + 2**-8, "int4": 0.5 / 7 + 2**-8}[precision]
    assert size == 0 or float((again - vector).abs().max()) <= step * float(vector.abs().max()) + 1e-30
    assert encode(vector, precision) == data


def test_rounding_keeps_not_finite_values_visible_and_refuses_other_sizes() -> None:
    for bad in (math.nan, math.inf):
        for precision in PRECISIONS:
            vector = torch.zeros(100)
            vector[3] = bad
            assert not_finite(decode(encode(vector, precision), 100, precision))
    with pytest.raises(ValueError, match="instead of"):
        decode(b"123", 100, "int4")


def test_the_outer_optimizer_is_torch_nesterov_and_learners_follow_it_bit_for_bit() -> None:
    weights = torch.nn.Parameter(torch.randn(300, generator=torch.Generator().manual_seed(0)))
    theirs = torch.optim.SGD([weights], lr=0.7, momentum=0.9, nesterov=True)
    ours, optimizer = FragmentState.first(weights.detach().clone()), OuterOptimizer(0.7, 0.9, "float32")
    rounded, coarse = ours, OuterOptimizer(0.7, 0.9, "int4")
    learner = ours.values
    for seed in range(12):
        pseudo_gradient = torch.randn(300, generator=torch.Generator().manual_seed(seed))
        weights.grad = -pseudo_gradient
        theirs.step()
        ours, _ = optimizer.step(ours, [(0.5, pseudo_gradient), (0.5, pseudo_gradient)])
        rounded, difference = coarse.step(rounded, [(1.0, pseudo_gradient)])
        learner = apply_difference(learner, difference, "int4")
        assert torch.equal(learner, rounded.values)
    assert torch.allclose(ours.values, weights.detach(), atol=1e-5)
    assert torch.allclose(rounded.values + rounded.residual, weights.detach(), atol=1e-4)
