"""The parts that decide which weights come out: fragments, rounding, outer optimizer, local fragments, rounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config.learners import Precision
from tenfold.core.errors import InputError
from tenfold.learners.learner.replica import FragmentReplica, Replica, inner_steps_of
from tenfold.learners.messages import Contribution, Lease, Merged, Published, Refused, parse
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
from tenfold.learners.syncer.coordinator import samples_after
from tenfold.learners.syncer.merge_policy import (
    AdaptiveGrace,
    NormGuard,
    Throughput,
    merge_time,
    not_finite,
    root_mean_square,
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


@pytest.mark.parametrize("precision", PRECISIONS)
def test_errors_of_rounding_are_sent_later(precision: Precision) -> None:
    """A learner that stands still after one move has, some contributions later, sent all of it."""
    here = torch.zeros(500)
    fragment = FragmentReplica(cut_model({"w": [500]}, 1)[0], [here], precision)
    move = torch.randn(500, generator=torch.Generator().manual_seed(1))
    here += move
    sent = torch.zeros(500)
    for _ in range(8):
        sent += decode(fragment.contribute(), 500, precision)
    assert torch.allclose(sent, move, atol=2e-4)


def test_a_merge_keeps_what_is_not_sent_and_what_is_under_way() -> None:
    here = torch.zeros(4)
    fragment = FragmentReplica(cut_model({"w": [4]}, 1)[0], [here], "float32")
    here += 1.0
    fragment.contribute()  # sequence 0: one
    here += 0.5  # unsent
    fragment.merge(1, torch.full((4,), 10.0), contained=())  # of others
    assert here.tolist() == [11.5] * 4
    fragment.merge(2, torch.full((4,), 10.25), contained={0})
    assert here.tolist() == [10.75] * 4
    assert not fragment.awaits_merge


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


def paced(rates: dict[int, float], rounds: int = 6) -> Throughput:
    """Learners that contribute every 10 s, one after another, rates in tokens per second."""
    pace = Throughput()
    for number in range(rounds):
        for incarnation, rate in rates.items():
            pace.note(incarnation, 10.0 * number + incarnation, round(10 * rate))
    return pace


def test_a_movement_weighs_its_learners_share_of_all_training_whatever_the_order() -> None:
    pace = paced({1: 100.0, 2: 100.0, 3: 200.0})
    assert [pace.share(incarnation, (1, 2, 3)) for incarnation in (1, 2, 3)] == pytest.approx([0.25, 0.25, 0.5])
    assert pace.share(1, (1,)) == 1.0, "alone"
    assert pace.share(1, (1, 3)) == pytest.approx(1 / 3), "the second has died"
    assert pace.share(9, (1, 2, 9)) == pytest.approx(1 / 3), "a new one counts as the mean of the others"
    assert Throughput().share(1, (1, 2, 3, 4)) == 0.25, "the very first contribution"


def test_one_that_comes_late_with_the_work_of_a_minute_weighs_as_usual() -> None:
    pace = paced({1: 100.0, 2: 100.0})
    for number in range(6, 12):
        pace.note(1, 10.0 * number + 1, 1000)
    pace.note(2, 112.0, 6000)
    assert pace.share(2, (1, 2)) == pytest.approx(0.5)


@given(rates=st.dictionaries(st.integers(0, 9), st.floats(1.0, 1e4), min_size=1))
def test_weights_of_a_whole_round_sum_to_one(rates: dict[int, float]) -> None:
    pace = paced(rates)
    assert sum(pace.share(incarnation, rates) for incarnation in rates) == pytest.approx(1.0)


def test_a_merge_waits_for_the_quorum_then_for_those_who_usually_come() -> None:
    grace = AdaptiveGrace(limit=1.0)
    assert merge_time({}, {1, 2}, 1, grace) == math.inf
    assert merge_time({1: 5.0}, {1, 2}, 2, grace) == math.inf
    assert merge_time({1: 5.0}, {1, 2}, 0, grace) == math.inf
    assert merge_time({1: 5.0, 2: 6.0}, {1, 2}, 0, grace) == 6.0
    assert merge_time({1: 5.0}, {1}, 3, grace) == 5.0  # fewer alive than the quorum: all of them
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == 6.0  # not known yet: up to the limit
    rounds(grace, 5, late=0.2)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == pytest.approx(5.3)
    rounds(grace, 30, late=20.0)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == 5.0  # too slow to wait for
    rounds(grace, 30, late=0.4)
    assert merge_time({1: 5.0}, {1, 2}, 1, grace) == pytest.approx(5.6)  # and fast again


def rounds(grace: AdaptiveGrace, count: int, late: float) -> None:
    """Rounds of two learners with quorum 1 as they go: the second comes when it comes, merged or missed."""
    for number in range(count):
        first = 100.0 * number
        grace.arrived(1, first)
        grace.quorum(first)
        merged_at = merge_time({1: first}, {1, 2}, 1, grace)
        if first + late > merged_at:
            grace.merged([1])
        grace.arrived(2, first + late)
        grace.quorum(first + late)
        grace.merged([1, 2] if first + late <= merged_at else [2])


def test_the_guard_knows_the_usual_norm() -> None:
    guard, part = NormGuard(10.0), (0, 0, 1)
    assert guard.check(part, 5.0, 64, weights_norm=1.0) is None
    assert "the weights" in str(guard.check(part, 11.0, 64, weights_norm=1.0))
    for _ in range(8):
        guard.note(part, 0.01, 64)
    assert guard.check(part, 0.09, 64, weights_norm=1.0) is None
    assert guard.check(part, 0.09, 32, weights_norm=1.0) is None
    assert "recent contributions" in str(guard.check(part, 0.11, 64, weights_norm=1.0))
    assert guard.check(part, 0.9, 640, weights_norm=1.0) is None, "ten times the tokens may move ten times as far"
    assert "recent contributions" in str(guard.check(part, 1.1, 640, weights_norm=1.0))
    assert math.isinf(root_mean_square(torch.full((3,), math.inf)))
    assert root_mean_square(torch.full((3,), 3e38)) == pytest.approx(3e38)


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(1, 40), max_size=5), batch=st.integers(1, 9), steps=st.integers(0, 60))
def test_steps_count_samples_as_orders_do(sizes: list[int], batch: int, steps: int) -> None:
    from tenfold.learners.messages import Lease

    leases = [Lease(n, 1, 100 * n, size, 0, 1) for n, size in enumerate(sizes)]
    orders = [order for lease in leases for order in inner_steps_of(lease, batch)]
    assert samples_after(leases, batch, steps) == sum(order.samples for order in orders[:steps])


def life_of_a_run(total: int) -> Replica:
    """An incarnation with one fragment of nothing."""
    fragment = FragmentReplica(cut_model({"w": [4]}, 1)[0], [torch.zeros(4)], "float32")
    return Replica(1, [fragment], 8, "float32", total)


def test_the_schedule_follows_the_run_when_learners_come_while_a_lease_lasts() -> None:
    incarnation = life_of_a_run(1000)
    orders = inner_steps_of(Lease(7, 1, 0, 200, 100, 1), 10)
    assert [incarnation.placed(order).position for order in orders[:3]] == [100, 110, 120], "nothing is known yet"
    values = torch.zeros(4)
    incarnation.merge(0, 1, values, (), Published(145, 4))
    assert incarnation.placed(orders[3]).position == 130, "2% of the run off is near enough"
    incarnation.merge(0, 2, values, (), Published(200, 4))
    incarnation.merge(0, 3, values, (), Published(190, 4))
    assert incarnation.placed(orders[4]).position == 200, "the furthest of what was merged counts"
    assert incarnation.placed(orders[5]).position == 210
    incarnation.merge(0, 4, values, (), Published(150, 4))
    assert incarnation.placed(orders[6]).position == 150, "work of the dead is done again"
    following = inner_steps_of(Lease(8, 1, 900, 20, 990, 4), 10)
    assert [incarnation.placed(order).position for order in following] == [990, 999], "a new lease knows better"


def test_alone_a_learner_keeps_to_its_lease() -> None:
    """What was published lags behind, and one learner trains as if there were no syncer."""
    incarnation = life_of_a_run(1000)
    (order,) = inner_steps_of(Lease(1, 1, 500, 10, 500, 1), 10)
    incarnation.merge(0, 1, torch.zeros(4), (), Published(300, 1))
    assert incarnation.placed(order) == order


header = Contribution(
    incarnation=1,
    fragment=0,
    sequence=0,
    base_version=3,
    joined_version=2,
    step=8,
    tokens=64,
    history=(Merged(4, 0, 3),),
    precision="int4",
).to_json()


def test_a_contribution_survives_its_header() -> None:
    assert parse(Contribution, header, "contribution").to_json() == header


@given(
    key=st.sampled_from(sorted(header)),
    value=st.one_of(
        st.none(), st.text(max_size=5), st.integers(max_value=-1), st.floats(), st.lists(st.text(), min_size=1)
    ),
)
def test_a_malformed_header_is_refused_and_its_field_named(key: str, value: object) -> None:
    if key == "precision" and isinstance(value, str):
        return
    with pytest.raises(Refused, match=f"contribution: malformed message .*{key}"):
        parse(Contribution, header | {key: value}, "contribution")
