"""The ladder's design: rungs below the target, of its family, that say something about N and about D."""

import math
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config import Campaign, Model
from tenfold.core.errors import InputError
from tenfold.experiments.design import (
    FEWEST_RUNGS,
    FEWEST_STEPS,
    WIDEST_RATIO,
    Rung,
    Target,
    Trunk,
    design_ladder,
    multiplying_parameters,
    rung_campaign,
    scaled_model,
    scaled_rates,
    target_of,
    trunk_campaign,
)
from tenfold.model import training_flops_per_token
from tenfold.train.schedule import learning_rate_factor

VOCAB = 4096
ROUNDING = 1 + 0.5 / FEWEST_STEPS + 1e-9  # of the shortest rung to whole steps

Sections = dict[str, Any]


def campaign_of(model: Sections | None = None, train: Sections | None = None, **ladder: Any) -> Campaign:
    """A campaign of some model and run; its data are never looked at."""
    data = {"sources": [{"kind": "files", "paths": ["texts"]}]}
    shape = {"depth": 6, "width": 256, "context": 256} | (model or {})
    run = {"tokens": 40_000_000, "batch_tokens": 8192} | (train or {})
    return Campaign.model_validate({"name": "made", "data": data, "model": shape, "train": run, "ladder": ladder})


def ladder_of(campaign: Campaign) -> tuple[Target, tuple[Trunk, ...]]:
    target = target_of(campaign, VOCAB, campaign.train.tokens or 0)
    return target, design_ladder(campaign, VOCAB, target)


def computes(trunk: Trunk) -> list[float]:
    return [rung.steps * trunk.batch_tokens * trunk.flops_per_token for rung in trunk.rungs]


def check_valid(campaign: Campaign, target: Target, trunks: tuple[Trunk, ...]) -> None:
    """What every ladder must keep."""
    ladder = campaign.ladder
    assert len(trunks) >= min(3, ladder.sizes) and sum(len(trunk.rungs) for trunk in trunks) >= FEWEST_RUNGS
    assert len({trunk.name for trunk in trunks}) == len(trunks)
    for small, large in pairwise(trunks):
        assert small.model.resolved_width < large.model.resolved_width < campaign.model.resolved_width
        assert small.parameters < large.parameters < target.parameters
    for trunk in trunks:
        check_trunk(campaign, target, trunk)


def check_trunk(campaign: Campaign, target: Target, trunk: Trunk) -> None:
    assert trunk.parameters == multiplying_parameters(trunk.model, VOCAB)
    assert trunk.flops_per_token == training_flops_per_token(trunk.model, VOCAB)
    assert trunk.batch_tokens > 0 and trunk.batch_tokens % campaign.model.context == 0
    assert len(trunk.rungs) >= 2
    for short, long in pairwise(trunk.rungs):
        assert short.steps < long.steps and short.constant_steps <= long.constant_steps
    for rung, compute in zip(trunk.rungs, computes(trunk), strict=True):
        assert rung.steps >= FEWEST_STEPS and 0 < trunk.warmup_steps < rung.constant_steps < rung.steps
        assert 1 / ROUNDING <= compute / rung.budget <= ROUNDING
        assert campaign.ladder.smallest / ROUNDING <= compute / target.compute <= campaign.ladder.largest * ROUNDING
        ratio = rung.budget / trunk.flops_per_token / trunk.parameters / (target.tokens / target.parameters)
        assert ratio * (1 + 1e-9) >= 1 / WIDEST_RATIO and ratio <= WIDEST_RATIO * (1 + 1e-9)
    # Both have to run: a trunk is a run, and so is a rung.
    trunk_campaign(campaign, trunk)
    for rung in trunk.rungs:
        rung_campaign(campaign, trunk, rung)


@pytest.mark.parametrize(
    ("depth", "width", "tokens"),
    [(6, 256, 40_000_000), (4, 192, 20_000_000), (12, 384, 2**31), (24, 1024, 2**34), (1, 512, 2**28)],
)
def test_a_ladder_reaches_up_to_the_compute_it_was_given(depth: int, width: int, tokens: int) -> None:
    campaign = campaign_of({"depth": depth, "width": width}, {"tokens": tokens})
    target, trunks = ladder_of(campaign)
    check_valid(campaign, target, trunks)
    largest = max(compute for trunk in trunks for compute in computes(trunk))
    assert abs(largest / (campaign.ladder.largest * target.compute) - 1) < 0.02


def test_sizes_and_tokens_vary_apart() -> None:
    """Else the terms of N and D cannot be told from each other."""
    _, trunks = ladder_of(campaign_of())
    assert trunks[-1].parameters > 2 * trunks[0].parameters
    tokens = [rung.steps * trunk.batch_tokens for trunk in trunks for rung in trunk.rungs]
    assert max(tokens) > 5 * min(tokens)
    for trunk in trunks:
        assert trunk.rungs[-1].steps > 1.5 * trunk.rungs[0].steps
    budgets = [rung.budget for trunk in trunks for rung in trunk.rungs]
    assert any(budgets.count(budget) >= 2 for budget in budgets)  # an isoFLOP profile


def test_batches_grow_with_the_tokens() -> None:
    campaign = campaign_of()
    target, trunks = ladder_of(campaign)
    for trunk in trunks:
        tokens = math.sqrt(trunk.rungs[0].budget * trunk.rungs[-1].budget) / trunk.flops_per_token
        wanted = campaign.train.batch_tokens * math.sqrt(tokens / target.tokens)
        assert abs(trunk.batch_tokens - wanted) <= campaign.model.context / 2 + 1e-6


def test_a_target_too_small_is_refused_in_one_line_that_says_what_to_change() -> None:
    with pytest.raises(InputError) as refusal:
        ladder_of(campaign_of(train={"tokens": 100_000}))
    message = str(refusal.value)
    assert "100,000 tokens" in message and "\n" not in message
    assert all(key in message for key in ("ladder.smallest", "ladder.sizes", "train.tokens", "ladder.sizes = 0"))


def test_budgets_close_together_give_no_rung_twice() -> None:
    campaign = campaign_of(train={"tokens": 1_000_000}, smallest=0.095, largest=0.1, budgets=12, sizes=6)
    target, trunks = ladder_of(campaign)
    check_valid(campaign, target, trunks)
    assert any(len(trunk.rungs) < 3 for trunk in trunks)


@pytest.mark.parametrize("schedule", [{"decay": 0.0}, {"warmup": 0.1, "decay": 0.6}, {"kind": "cosine", "warmup": 0.1}])
def test_every_rung_warms_up_and_cools_down_whatever_the_target_does(schedule: Sections) -> None:
    campaign = campaign_of(train={"schedule": schedule})
    target, trunks = ladder_of(campaign)
    check_valid(campaign, target, trunks)


shapes = st.fixed_dictionaries(
    {
        "depth": st.integers(1, 24),
        "width": st.integers(1, 32).map(lambda heads: 32 * heads),
        "context": st.sampled_from([64, 256, 1024]),
    }
)
runs = st.fixed_dictionaries(
    {
        "tokens": st.floats(14, 36).map(lambda power: int(2**power)),
        "batch_tokens": st.sampled_from([4096, 8192, 65536]),
        "schedule": st.fixed_dictionaries({"warmup": st.floats(0, 0.5), "decay": st.floats(0, 0.5)}),
    }
)
ladders = st.fixed_dictionaries(
    {
        "sizes": st.integers(3, 8),
        "budgets": st.integers(2, 12),
        "smallest": st.floats(1e-5, 0.05),
        "largest": st.floats(0.06, 0.9),
    }
)


@pytest.mark.parametrize("depth", [2, 8, 24])
@pytest.mark.parametrize("width", [192, 256, 512, 1024])
@pytest.mark.parametrize("tokens_per_parameter", [5, 20, 100])
def test_every_usual_target_gets_a_valid_ladder(depth: int, width: int, tokens_per_parameter: int) -> None:
    shape = {"depth": depth, "width": width}
    parameters = multiplying_parameters(campaign_of(shape).model, VOCAB)
    campaign = campaign_of(shape, {"tokens": tokens_per_parameter * parameters})
    check_valid(campaign, *ladder_of(campaign))


def test_targets_however_odd_are_answered_about_every_second_time() -> None:
    """The same 200 targets each time; 99 are answered, and many fewer would be a fault of the design."""
    draw, answered = random.Random(0), 0
    for _ in range(200):
        model, train, ladder = drawn_sections(draw)
        campaign = campaign_of(model, train, **ladder)
        try:
            target, trunks = ladder_of(campaign)
        except InputError:
            continue
        check_valid(campaign, target, trunks)
        answered += 1
    assert answered >= 90


def drawn_sections(draw: random.Random) -> tuple[Sections, Sections, Sections]:
    """[model], [train] and [ladder], from the ranges of the strategies above."""
    model = {"depth": draw.randint(1, 24), "width": 32 * draw.randint(1, 32), "context": draw.choice([64, 256, 1024])}
    schedule = {"warmup": draw.uniform(0, 0.5), "decay": draw.uniform(0, 0.5)}
    train = {"tokens": int(2 ** draw.uniform(14, 36)), "batch_tokens": draw.choice([4096, 8192, 65536])}
    ladder = {"sizes": draw.randint(3, 8), "budgets": draw.randint(2, 12)}
    shares = {"smallest": draw.uniform(1e-5, 0.05), "largest": draw.uniform(0.06, 0.9)}
    return model, train | {"schedule": schedule}, ladder | shares


@settings(deadline=None, max_examples=60)
@given(shapes, runs, ladders)
def test_any_target_is_refused_or_gets_a_valid_ladder(model: Sections, train: Sections, ladder: Sections) -> None:
    campaign = campaign_of(model, train, **ladder)
    try:
        target, trunks = ladder_of(campaign)
    except InputError:
        return
    check_valid(campaign, target, trunks)


@settings(deadline=None, max_examples=100)
@given(
    head_dim=st.sampled_from([16, 32, 64]),
    kv_heads=st.sampled_from([1, 2, 4]),
    groups=st.integers(1, 4),
    depth=st.integers(1, 32),
    mlp=st.sampled_from(["swiglu", "gelu"]),
    share=st.integers(1, 15),
)
def test_a_scaled_model_is_of_the_targets_family(
    head_dim: int, kv_heads: int, groups: int, depth: int, mlp: str, share: int
) -> None:
    heads = kv_heads * groups
    target = Model.model_validate(
        {"depth": depth, "width": heads * head_dim, "head_dim": head_dim, "kv_heads": kv_heads, "mlp": mlp}
    )
    width = max(head_dim, heads * share // 16 * head_dim)
    scaled = scaled_model(target, width)
    assert scaled.resolved_width == width and scaled.head_dim == head_dim
    assert scaled.resolved_heads * head_dim == width
    assert scaled.resolved_heads % scaled.resolved_kv_heads == 0
    assert scaled.depth <= target.depth
    wanted = target.resolved_mlp_width * width / target.resolved_width
    assert abs(scaled.resolved_mlp_width - wanted) <= 8 and scaled.resolved_mlp_width % 16 == 0
    changed = {"depth", "width", "heads", "kv_heads", "mlp_width"}
    assert scaled.model_dump(exclude=changed) == target.model_dump(exclude=changed)


def test_the_target_at_its_own_width_is_itself() -> None:
    model = campaign_of({"kv_heads": 2}).model
    scaled = scaled_model(model, model.resolved_width)
    assert (scaled.depth, scaled.resolved_heads, scaled.resolved_kv_heads) == (6, 8, 2)
    assert abs(scaled.resolved_mlp_width - model.resolved_mlp_width) <= 8


def check_same_until_the_cool_down(campaign: Campaign, trunk: Trunk) -> None:
    constant = trunk_campaign(campaign, trunk)
    for rung in trunk.rungs:
        whole = rung_campaign(campaign, trunk, rung)
        rates = [learning_rate_factor(whole.train.schedule, step, rung.steps) for step in range(rung.steps)]
        expected = [
            learning_rate_factor(constant.train.schedule, step, trunk.constant_steps)
            for step in range(rung.constant_steps)
        ]
        assert rates[: rung.constant_steps] == expected
        assert rates[: trunk.warmup_steps] == [(step + 1) / trunk.warmup_steps for step in range(trunk.warmup_steps)]
        cooling = rates[rung.constant_steps :]
        assert cooling[0] < 1 and all(before > after for before, after in pairwise(cooling))
        assert cooling[-1] >= campaign.train.schedule.final


@pytest.mark.parametrize("schedule", [{}, {"final": 0.1, "decay": 0.2}, {"kind": "cosine", "warmup": 0.01}])
def test_up_to_its_cool_down_a_rung_has_the_rates_of_its_trunk(schedule: Sections) -> None:
    campaign = campaign_of(train={"schedule": schedule})
    for trunk in ladder_of(campaign)[1]:
        check_same_until_the_cool_down(campaign, trunk)


@st.composite
def trunks_of_any_length(draw: st.DrawFn) -> tuple[int, tuple[Rung, ...]]:
    """Steps of warm-up, and rungs in order."""
    warmup = draw(st.integers(1, 60))
    constants = sorted(draw(st.sets(st.integers(warmup + 1, 700), min_size=1, max_size=3)))
    return warmup, tuple(Rung(1.0, constant + draw(st.integers(1, 300)), constant) for constant in constants)


CAMPAIGN = campaign_of()
TRUNK = ladder_of(CAMPAIGN)[1][0]


@settings(deadline=None, max_examples=100)
@given(trunks_of_any_length())
def test_shares_of_the_schedule_round_back_to_the_same_steps(made: tuple[int, tuple[Rung, ...]]) -> None:
    warmup, rungs = made
    check_same_until_the_cool_down(CAMPAIGN, replace(TRUNK, warmup_steps=warmup, rungs=rungs))


def test_a_rung_is_as_long_as_planned_and_has_no_ladder_of_its_own() -> None:
    rung = TRUNK.rungs[0]
    derived = rung_campaign(campaign_of(threads=2), TRUNK, rung)
    assert derived.train.tokens == rung.steps * TRUNK.batch_tokens and derived.train.batch_tokens == TRUNK.batch_tokens
    assert derived.model == TRUNK.model and derived.train.threads == 2
    assert derived.ladder.sizes == 0
    assert derived.evaluate.every == rung.steps


def test_only_the_learning_rates_are_scaled() -> None:
    doubled = scaled_rates(CAMPAIGN, 2.0)
    before, after = CAMPAIGN.train.optimizer, doubled.train.optimizer
    assert after.learning_rate == 2 * before.learning_rate
    assert after.muon_learning_rate == 2 * before.muon_learning_rate
    rates = {"learning_rate", "muon_learning_rate"}
    assert after.model_dump(exclude=rates) == before.model_dump(exclude=rates)
    assert doubled.model_dump(exclude={"train": {"optimizer"}}) == CAMPAIGN.model_dump(exclude={"train": {"optimizer"}})
