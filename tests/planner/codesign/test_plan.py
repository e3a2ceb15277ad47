"""Whole searches, with the shipped calibration: what must hold of their outcome, and bad input."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config import parse_campaign
from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.codesign.goal import Goal, parse_goal
from tenfold.planner.codesign.lowest_loss import recipe_near
from tenfold.planner.codesign.plan import GoalPlan, search_goal
from tenfold.planner.codesign.terms import terms_of
from tenfold.planner.codesign.text import plan_lines
from tenfold.planner.codesign.trials import Design, Laboratory, batch_sizes, cluster_parts, expected_log_loss, pareto
from tenfold.planner.export.campaign import campaign_sections
from tenfold.planner.export.megatron import megatron_arguments
from tenfold.planner.export.torchtitan import torchtitan_toml
from tenfold.planner.hardware.cluster import Cluster, default_cluster
from tenfold.planner.hardware.load import example_cluster

SMALL = replace(default_cluster("H100-SXM", 8), price_per_device_hour=2.0)
TWO_HOSTS = replace(default_cluster("H100-SXM", 16), price_per_device_hour=2.0)
CALIBRATED = shipped_calibration()
FEW = "aim = 'loss'\nmost_searches = 30\n"
SERVED = "[serving]\naccelerator = 'H100-SXM'\ndevices = 4\ncontext = 4096\nmilliseconds_per_token = {}\n"


def goal(text: str, head: str = "aim = 'loss'\nmost_searches = 90\n") -> Goal:
    return parse_goal(head + text, "goal.toml")


def plan(text: str, cluster: Cluster = SMALL, head: str = "aim = 'loss'\nmost_searches = 90\n") -> GoalPlan:
    return search_goal(goal(text, head), cluster, CALIBRATED)


@pytest.fixture(scope="module")
def ten_days() -> GoalPlan:
    return plan("[budget]\ndays = 10\n")


def marks(design: Design) -> tuple[float, ...]:
    return (design.loss or 1.0, design.days, design.device_days, design.memory_bytes)


def test_the_best_come_first_and_spend_the_budget(ten_days: GoalPlan) -> None:
    losses = [design.loss for design in ten_days.best]
    assert losses == sorted(losses, key=lambda loss: loss or math.inf) and len(losses) > 1
    for design in ten_days.best:
        assert design.days == pytest.approx(10) and design.dollars == pytest.approx(10 * 24 * 8 * 2)
        assert design.tokens == pytest.approx(design.tokens_per_second * 0.9 * 10 * 86400)
        assert design.loss_interval is not None and design.loss is not None
        assert design.loss_interval[0] < design.loss < design.loss_interval[1]
        assert design.memory_bytes <= SMALL.accelerator.memory_bytes
        assert design.tokens_worth < design.tokens


def test_nothing_on_the_front_beats_another(ten_days: GoalPlan) -> None:
    front = [marks(design) for design in ten_days.front]
    assert len(front) == len(set(front)) > 3
    for one in front:
        assert not any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in front)
    assert min(front)[0] == pytest.approx(ten_days.best[0].loss or 0)


def test_no_model_drawn_at_random_is_better(ten_days: GoalPlan) -> None:
    terms = terms_of(goal("[budget]\ndays = 10\n"), SMALL, CALIBRATED, None)
    laboratory = Laboratory(terms, 100, lambda done, most: None)
    rng = np.random.default_rng(1)
    section = terms.goal.shapes
    found = []
    for _ in range(15):
        shape = recipe_near(float(10 ** rng.uniform(8.7, 10.2)), section).shape(section)
        trial = laboratory.trial(shape, int(2 ** rng.integers(3, 8)), SMALL)
        if trial is not None:
            found.append(math.exp(expected_log_loss(trial, terms)))
    assert len(found) > 8 and (ten_days.best[0].loss or math.inf) <= min(found) + 1e-4


def test_relaxing_never_hurts_and_more_days_and_flops_pay(ten_days: GoalPlan) -> None:
    gains = {one.what: one for one in ten_days.worth}
    assert all((one.loss_gain or 0) >= 0 and (one.saved or 0) >= 0 for one in ten_days.worth)
    assert (gains["+20% days"].loss_gain or 0) > 0.002 and gains["+20% days"].saved is None
    assert 0.03 < (gains["+20% FLOP/s"].saved or 0) < 0.2
    assert {one.kind for one in ten_days.binds} >= {"budget", "compute"}


def test_more_days_give_less_loss_as_told(ten_days: GoalPlan) -> None:
    longer = plan("[budget]\ndays = 12\n")
    gain = (ten_days.best[0].loss or 0) - (longer.best[0].loss or 0)
    told = next(one.loss_gain for one in ten_days.worth if one.what == "+20% days")
    assert gain == pytest.approx(told or 0, abs=0.002)


def test_scarce_data_bind_and_make_the_model_smaller(ten_days: GoalPlan) -> None:
    scarce = plan("[budget]\ndays = 10\nunique_tokens = 1e9\n")
    assert (scarce.best[0].loss or 0) > (ten_days.best[0].loss or 0) + 0.05
    assert scarce.best[0].parameters < ten_days.best[0].parameters
    assert scarce.binds[0].kind == "data"


def test_a_latency_limit_makes_the_model_smaller_and_binds(ten_days: GoalPlan) -> None:
    free = plan("[budget]\ndays = 10\n" + SERVED.format(1000))
    served = free.best[0].serving_seconds
    assert served is not None and free.best[0].loss == ten_days.best[0].loss
    limit = served * 1e3 / 2
    limited = plan("[budget]\ndays = 10\n" + SERVED.format(limit), head=FEW)
    assert all((design.serving_seconds or math.inf) * 1e3 <= limit for design in (*limited.best, *limited.front))
    assert limited.best[0].parameters < free.best[0].parameters
    assert "latency" in {one.kind for one in limited.binds}


def test_money_alone_is_a_budget_too() -> None:
    rich = plan("[budget]\ndollars = 40_000\n", TWO_HOSTS, FEW)
    assert {design.devices for design in rich.best} <= {16, 8}
    assert all(design.dollars == pytest.approx(40_000) for design in rich.best)
    both = plan("[budget]\ndollars = 40_000\ndays = 2\n", TWO_HOSTS, FEW)
    assert all(design.days <= 2 + 1e-9 and (design.dollars or 0) <= 40_000 + 1 for design in both.best)


def test_a_given_batch_is_kept() -> None:
    fixed = plan("[budget]\ndays = 10\n[batch]\ntokens = 262144\n", head=FEW)
    assert {design.sequences for design in fixed.best} == {32}
    assert any("the given batch makes" in note for note in fixed.notes)


def test_goodput_may_be_a_function() -> None:
    text = goal("[budget]\ndays = 10\n", "aim = 'loss'\nmost_searches = 5\n")
    seen: list[int] = []

    def half(devices: int) -> float:
        seen.append(devices)
        return 0.5

    slow = search_goal(text, SMALL, CALIBRATED, goodput=half)
    assert set(seen) == {8}
    assert slow.best[0].tokens == pytest.approx(slow.best[0].tokens_per_second * 0.5 * 864000)
    assert "stopped after most_searches = 5" in "".join(slow.notes)


GIVEN = "tokens = 2e11\n[model]\nname = 'Llama-3-8B'\n"


@pytest.fixture(scope="module")
def fastest() -> GoalPlan:
    return plan(GIVEN, TWO_HOSTS, "aim = 'time'\n")


def test_least_time_is_sorted_and_pays_for_large_batches(fastest: GoalPlan) -> None:
    days = [design.days for design in fastest.best]
    assert days == sorted(days)
    for design in fastest.best:
        assert design.tokens_worth == pytest.approx(2e11, rel=1e-4) and design.tokens > 2e11
        assert design.days_interval[0] < design.days < design.days_interval[1]
        assert design.days == pytest.approx(design.tokens / design.tokens_per_second / 0.9 / 86400)


def test_layouts_to_try_come_with_chances(fastest: GoalPlan, ten_days: GoalPlan) -> None:
    for made in (fastest, ten_days):
        assert made.layouts[0].layout == made.best[0].layout
        assert [one.seconds for one in made.layouts] == sorted(one.seconds for one in made.layouts)
        assert 0 < sum(made.regret.chances) <= 1
        assert made.regret.first >= made.regret.after[-1] >= 0


def test_least_cost_uses_fewer_devices_for_longer(fastest: GoalPlan) -> None:
    cheapest = plan(GIVEN, TWO_HOSTS, "aim = 'cost'\n")
    assert (cheapest.best[0].dollars or 0) <= (fastest.best[0].dollars or 0)
    assert len({design.devices for design in cheapest.front}) > 1
    assert cheapest.worth[0].kind == "compute" and cheapest.worth[0].loss_gain is None


def test_a_given_batch_trains_exactly_the_given_tokens() -> None:
    exact = plan(GIVEN + "[batch]\ntokens = 4194304\n", TWO_HOSTS, "aim = 'time'\n")
    assert exact.best[0].tokens == 2e11 and exact.best[0].sequences == 512


def test_experts_are_planned_without_a_forecast_of_loss() -> None:
    mixed = plan(
        "tokens = 1e11\n[model]\nname = 'Qwen3-30B-A3B'\n[batch]\ntokens = 4194304\n", TWO_HOSTS, "aim = 'time'\n"
    )
    assert mixed.best[0].loss is None and mixed.best[0].layout.expert >= 1
    assert "dense models only" in "".join(mixed.notes)


@pytest.mark.parametrize("name", ["ten_days", "fastest"])
def test_plans_are_json_lines_and_exports(name: str, request: pytest.FixtureRequest) -> None:
    made: GoalPlan = request.getfixturevalue(name)
    told = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert told["best"][0]["days"] == made.best[0].days and len(told["worth"]) == len(made.worth)
    text = plan_lines(made)
    assert all("\n" not in line for line in text) and any(line.startswith("binds: ") for line in text)
    campaign = parse_campaign(campaign_sections(made.job, CALIBRATED.memory_constants("tenfold")), "campaign.toml")
    assert campaign.model.depth == made.best[0].shape.layers
    assert str(int(made.best[0].shape.width)) in megatron_arguments(made.job)
    assert "[parallelism]" in torchtitan_toml(made.job)


@pytest.mark.parametrize(
    ("text", "cluster", "message"),
    [
        (
            "aim = 'loss'\n[budget]\ndollars = 5\n",
            replace(SMALL, price_per_device_hour=0.0),
            "budget.dollars: 8 x H100-SXM has no price_dollars_per_device_hour",
        ),
        (
            "aim = 'cost'\n[model]\nname = 'Llama-3-8B'\n",
            replace(SMALL, price_per_device_hour=0.0),
            'aim = "cost": 8 x H100-SXM has no price_dollars_per_device_hour',
        ),
        (
            "aim = 'loss'\nprecision = 'fp4'\n[budget]\ndays = 1\n",
            SMALL,
            "precision = 'fp4': H100-SXM has a published peak in",
        ),
        (
            "aim = 'loss'\nframework = 'megatron'\n[budget]\ndays = 1\n",
            SMALL,
            "framework = 'megatron'; did you mean 'megatron-core'?",
        ),
        ("aim = 'loss'\n[budget]\ndays = 1\n" + SERVED.format(0.001), SMALL, "serving.milliseconds_per_token: none"),
        (
            "aim = 'time'\n[model]\nname = 'Llama-3-70B'\n" + SERVED.format(1),
            SMALL,
            "serving.milliseconds_per_token = 1: on 4 H100-SXM the model takes",
        ),
        (
            "aim = 'time'\n[model]\nname = 'Llama-3-405B'\n" + SERVED.format(1000),
            SMALL,
            "the model does not fit there",
        ),
        ("aim = 'time'\n[model]\nname = 'Llama-3-405B'\n", default_cluster("H100", 8), "nothing fits: on 8 devices"),
        (
            "aim = 'time'\n[model]\nname = 'Llama-3-8B'\n[batch]\ntokens = 8192\n",
            default_cluster("H100", 8_388_608),
            "a batch of 1 sequences is too small for 8,388,608 devices",
        ),
        (
            "aim = 'loss'\n[budget]\ndays = 1\n[serving]\naccelerator = 'H1000'\nmilliseconds_per_token = 5\n",
            SMALL,
            "unknown accelerator 'H1000'",
        ),
    ],
)
def test_goals_that_cannot_be_met_get_one_line(text: str, cluster: Cluster, message: str) -> None:
    with pytest.raises(InputError) as caught:
        search_goal(parse_goal(text, "goal.toml"), cluster, CALIBRATED)
    assert message.replace("; did", ": did") in str(caught.value) and "\n" not in str(caught.value)


def test_parts_halve_whole_hosts_and_keep_the_network() -> None:
    found = cluster_parts(example_cluster("h100-1024"))
    assert [part.devices for part in found] == [1024, 512, 256, 128]
    assert all(part.tiers[-1].devices == part.devices and part.tiers[0].devices == 8 for part in found)
    assert [part.devices for part in cluster_parts(default_cluster("H100", 8))] == [8]
    assert len(cluster_parts(example_cluster("four-sites"))) == 1


@given(st.floats(1e4, 1e9), st.integers(1, 5000))
def test_batches_share_out_over_the_devices_odd_part(target: float, devices: int) -> None:
    cluster = default_cluster("RTX 4090" if devices == 1 else "H100", devices)
    sizes = batch_sizes(target, 4096.0, cluster, 2)
    odd = cluster.devices // (cluster.devices & -cluster.devices)
    assert sizes and all(size % odd == 0 for size in sizes)
    assert sizes == sorted(set(sizes))


def test_several_sites_are_told_what_training_apart_would_save() -> None:
    asked = "[model]\nname = 'nanoGPT-124M'\n[batch]\ntokens = 4194304\n"
    found = plan(asked, example_cluster("four-sites"), "aim = 'time'\ntokens = 1e10\n")
    notes = "\n".join(found.notes)
    assert "the 4 sites train in step here" in notes and "semi-synchronous, with inner_steps" in notes


def test_batches_share_out_over_sites() -> None:
    scenario = example_cluster("rubin-scenario")
    assert all(size % 10 == 0 for size in batch_sizes(1e6, 8192.0, scenario, 1))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(1, 10)] * 3), min_size=1, max_size=20), st.integers(1, 8))
def test_a_front_holds_the_best_and_nothing_beaten(points: list[tuple[float, float, float]], most: int) -> None:
    first = plan_of_one()
    designs = [replace(first, loss=a, days=b, device_days=b, memory_bytes=c) for a, b, c in points]
    front = pareto(designs, most)
    assert 1 <= len(front) <= most
    assert min(one.loss or 0 for one in front) == min(a for a, _, _ in points)
    for one in front:
        assert not any(
            marks(other) != marks(one) and all(x <= y for x, y in zip(marks(other), marks(one), strict=True))
            for other in designs
        )


def plan_of_one() -> Design:
    global _ONE
    if _ONE is None:
        _ONE = plan(
            "tokens = 1e9\n[model]\nname = 'nanoGPT-124M'\n", default_cluster("H100", 1), "aim = 'time'\n"
        ).best[0]
    return _ONE


_ONE: Design | None = None
