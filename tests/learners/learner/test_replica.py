"""What a learner owes and is at, and where its steps stand in the schedule."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config.learners import Precision
from tenfold.learners.learner.replica import FragmentReplica, InnerStep, Replica, inner_step, inner_steps_of
from tenfold.learners.messages import Lease, Published
from tenfold.learners.outer import (
    cut_model,
    decode,
)
from tenfold.learners.syncer.leases import samples_after
from tenfold.train.observe import Observer, Observers
from tenfold.train.step import StepMeasure
from tests.train.small import batch_of, new_state

PRECISIONS: list[Precision] = ["float32", "bf16", "int8", "int4"]


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


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(1, 40), max_size=5), batch=st.integers(1, 9), steps=st.integers(0, 60))
def test_steps_count_samples_as_inner_steps_do(sizes: list[int], batch: int, steps: int) -> None:
    from tenfold.learners.messages import Lease

    leases = [Lease(n, 1, 100 * n, size, 0, 1) for n, size in enumerate(sizes)]
    orders = [order for lease in leases for order in inner_steps_of(lease, batch)]
    assert samples_after(leases, batch, steps) == sum(order.samples for order in orders[:steps])


def replica_of_a_run(total: int) -> Replica:
    """An incarnation with one fragment of nothing."""
    fragment = FragmentReplica(cut_model({"w": [4]}, 1)[0], [torch.zeros(4)], "float32")
    return Replica(1, [fragment], 8, "float32", total)


def test_the_schedule_follows_the_run_when_learners_come_while_a_lease_lasts() -> None:
    incarnation = replica_of_a_run(1000)
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
    incarnation = replica_of_a_run(1000)
    (order,) = inner_steps_of(Lease(1, 1, 500, 10, 500, 1), 10)
    incarnation.merge(0, 1, torch.zeros(4), (), Published(300, 1))
    assert incarnation.placed(order) == order


def test_an_inner_step_is_watched_by_observers() -> None:
    class Watch(Observer):
        name = "watch"

        def __init__(self) -> None:
            self.seen: list[int] = []

        def after_step(self, measure: StepMeasure) -> None:
            self.seen.append(measure.step)

    watch, learner = Watch(), new_state()
    learner.batch = lambda first, samples, position: batch_of(position // 8)
    for position in (0, 8, 24):
        assert inner_step(learner, InnerStep(position, 8, position), Observers([watch])).is_finite
    assert watch.seen == [1, 2, 4]
