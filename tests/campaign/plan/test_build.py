"""From choices to a plan: every part is in one group, and bars are as long as the step."""

import math
from collections import Counter
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.campaign.plan.build import front_of, sensitivity_of
from tenfold.pages.plan import Lever, Planned, Recomputation
from tenfold.pages.plan_page import (
    MEMORY_GROUPS,
    TIME_GROUPS,
    batch_text,
    degrees_text,
    memory_bars,
    schedule_text,
    seconds_text,
    time_bars,
)
from tenfold.planner.codesign.trials import Design
from tenfold.planner.cost.layout import RECOMPUTATIONS
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.step import StepTime
from tenfold.planner.hardware.cluster import default_cluster
from tenfold.planner.search.sensitivity import LeverEffect, MachineLever
from tests.campaign.plan.example import LAYOUTS, LLAMA, SEQUENCES, found, llama_asked, llama_layouts, made_up_fleet


@pytest.mark.parametrize(("groups", "parts"), [(TIME_GROUPS, StepTime), (MEMORY_GROUPS, Memory)])
def test_every_part_of_the_cost_model_is_drawn_once(groups: object, parts: type) -> None:
    assert isinstance(groups, tuple)
    drawn = Counter(part for _, _, members in groups for part in members)
    assert drawn == Counter(each.name for each in fields(parts))


def test_recomputation_has_the_names_of_the_cost_model() -> None:
    assert get_args(Recomputation) == RECOMPUTATIONS


def test_bars_are_as_long_as_step_and_memory() -> None:
    layouts = llama_layouts()
    for layout, time, memory in zip(layouts, time_bars(layouts), memory_bars(layouts), strict=True):
        assert time.total == pytest.approx(layout.seconds)
        assert time.interval == (layout.low, layout.high)
        assert memory.total == pytest.approx(layout.memory_bytes / 1e9)


def test_a_plan_keeps_what_the_choice_said() -> None:
    choices = [found(layout, default_cluster("H100-SXM", 16384)) for layout in LAYOUTS]
    for choice, layout in zip(sorted(choices, key=lambda choice: choice.seconds), llama_layouts(), strict=True):
        assert (layout.tensor, layout.context, layout.pipeline, layout.data) == (
            choice.layout.tensor,
            choice.layout.context,
            choice.layout.pipeline,
            choice.layout.data,
        )
        assert layout.tensor * layout.context * layout.pipeline * layout.data == 16384
        assert layout.micro_batch * layout.accumulation * layout.data == SEQUENCES
        assert layout.seconds == choice.seconds and layout.mfu == choice.mfu
        assert layout.memory_bytes == pytest.approx(float(choice.memory.total))
        assert layout.time["bubble"] == float(choice.time.bubble)


def test_the_question_is_that_of_cluster_and_shape() -> None:
    asked = llama_asked()
    assert (asked.devices, asked.accelerator, asked.memory_bytes) == (16384, "H100-SXM", 80e9)
    assert asked.parameters == pytest.approx(405.8e9, rel=1e-3)


def lever(what: str, better: float, worse: float) -> MachineLever:
    return MachineLever(
        what, "network", LeverEffect(what, "+20%", 1.2, better, None), LeverEffect(what, "-17%", 1 / 1.2, worse, None)
    )


def test_levers_of_the_search_become_those_of_the_picture() -> None:
    found = sensitivity_of(
        [lever("network bandwidth", better=-0.06, worse=0.08), lever("memory", better=0.0, worse=math.inf)]
    )
    assert found.outcome == "days"
    assert found.levers == (
        Lever("network bandwidth", "−17%", 0.08, "+20%", -0.06),
        Lever("memory", "−17%", None, "+20%", 0.0),
    )


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats_in_both(places: list[tuple[int, int]]) -> None:
    front = front_of([design(days=days, loss=loss) for days, loss in places])
    assert front is not None
    for point in front.points:
        beaten = any(a <= point.x and b <= point.y and (a, b) != (point.x, point.y) for a, b in places)
        assert point.best is not beaten


def design(**other: Any) -> Design:
    """A made-up design of Llama's size, but for `other`."""
    choice = found(LAYOUTS[0], default_cluster("H100-SXM", 16384))
    usual = Design(
        shape=LLAMA,
        layout=choice.layout,
        devices=16384,
        parameters=405e9,
        active_parameters=405e9,
        sequences=SEQUENCES,
        batch_tokens=SEQUENCES * 8192.0,
        tokens=15.6e12,
        tokens_worth=15.6e12,
        step_seconds=choice.seconds,
        step_interval=(choice.low, choice.high),
        tokens_per_second=choice.tokens_per_second,
        mfu=choice.mfu,
        days=54.0,
        days_interval=(54.0, 54.0),
        device_days=9e5,
        dollars=None,
        loss=1.8,
        loss_interval=None,
        memory=choice.memory,
        memory_bytes=float(choice.memory.total),
        chance_to_fit=choice.chance_to_fit,
        serving_seconds=None,
        time=choice.time,
        extrapolation=choice.extrapolation,
    )
    return replace(usual, **other)


def test_points_of_the_front_have_names_and_intervals() -> None:
    front = front_of([design(loss_interval=(1.7, 1.9)), design(days=9, loss_interval=(2.0, 2.2))])
    assert front is not None and (front.x_label, front.y_label) == ("days", "loss, nats per token")
    assert [(p.name, p.low, p.high) for p in front.points] == [
        ("405B, 15.6T tokens", 1.7, 1.9),
        ("405B, 15.6T tokens", 1.8, 2.2),
    ]


def test_without_a_loss_the_front_is_of_days_and_device_days() -> None:
    front = front_of([design(loss=None), design(loss=None, days=27.0, device_days=12e5)])
    assert front is not None and front.y_label == "device-days"
    assert [(point.x, point.y, point.best) for point in front.points] == [(54.0, 9e5, True), (27.0, 12e5, True)]
    assert front_of([]) is None


def test_a_mean_outside_of_its_interval_widens_it() -> None:
    for line in made_up_fleet():
        assert all(0 <= point.low <= point.goodput <= point.high <= 1 for point in line.points)


def one(**other: object) -> Planned:
    return replace(llama_layouts()[0], **other)  # type: ignore[arg-type]


def test_degrees_of_one_are_not_mentioned() -> None:
    assert degrees_text(one(tensor=8, context=1, pipeline=16, data=128, expert=1)) == "TP 8 · PP 16 · DP 128"
    assert degrees_text(one(tensor=1, context=1, pipeline=1, data=1, expert=1)) == "no parallelism"


@pytest.mark.parametrize(
    ("pipeline", "interleaving", "zero_bubble", "said"),
    [(1, 1, False, "–"), (8, 1, False, "1F1B"), (8, 4, False, "4 chunks"), (8, 1, True, "zero bubble")],
)
def test_schedules_have_their_names(pipeline: int, interleaving: int, zero_bubble: bool, said: str) -> None:
    assert schedule_text(one(pipeline=pipeline, interleaving=interleaving, zero_bubble=zero_bubble)) == said


def test_what_else_tells_layouts_apart() -> None:
    layout = one(micro_batch=2, pipeline=1, recomputation="full", sharding=3)
    assert batch_text(layout) == "micro-batch 2, full recomputation, FSDP"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(6.2149, "6.21"), (0.03125, "0.0312"), (12.0, "12.0"), (100.2, "100"), (999.7, "1000"), (43210.0, "43210")],
)
def test_seconds_have_three_digits(seconds: float, said: str) -> None:
    assert seconds_text(seconds) == said
