"""Which small runs say most about the target, and the campaign of each: sizes, budgets, batch and schedule.

One trunk per model size trains at constant learning rate; short cool-downs from its checkpoints give several token
counts (Hägele et al., arXiv 2405.18392, section 4). Rungs lie on shared budgets, so that each budget is an isoFLOP
profile over sizes and each size sees several token counts: N and D vary apart, which is what identifies their terms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenfold.config import Campaign, Model
from tenfold.core import InputError
from tenfold.model import count_parameters, training_flops_per_token

LEAST_WIDTH_STEP = 16  # widths of rungs are multiples of a head's width, and of this
LEAST_DEPTH = 2  # one layer alone cannot copy from the context (Olsson et al., arXiv 2209.11895): another kind of model
WIDEST_RATIO = 8.0  # tokens per parameter of a rung lie within this factor of the target's
RUNGS_OF_SIZE = 3
FEWEST_STEPS = 24
FEWEST_SIZES, FEWEST_RUNGS = 3, 6
BATCH_EXPONENT = 0.5
DECAY = 0.3  # where the target's schedule has no share of its own


@dataclass(frozen=True)
class Rung:
    """One finished small run: `steps` of a trunk's batch, the last of them cooling down from `constant_steps` on."""

    budget: float
    """Training FLOP aimed at; rungs of one budget form an isoFLOP profile."""
    steps: int
    constant_steps: int


@dataclass(frozen=True)
class Trunk:
    """One model size at constant learning rate, and the rungs that branch off it, shortest first."""

    name: str
    model: Model
    parameters: int
    """Parameters that multiply a token: everything but the input embedding's lookup."""
    flops_per_token: float
    batch_tokens: int
    warmup_steps: int
    rungs: tuple[Rung, ...]

    @property
    def constant_steps(self) -> int:
        """Steps of the trunk itself."""
        return self.rungs[-1].constant_steps

    @property
    def flops(self) -> float:
        """FLOP of the trunk and all its cool-downs."""
        steps = self.constant_steps + sum(rung.steps - rung.constant_steps for rung in self.rungs)
        return self.flops_per_token * self.batch_tokens * steps


@dataclass(frozen=True)
class Target:
    """The run to forecast, counted as the rungs are. Compute in FLOP."""

    parameters: int
    tokens: int
    compute: float


def target_of(campaign: Campaign, vocab_size: int, tokens: int) -> Target:
    """The campaign's own run over `tokens`."""
    model = campaign.model
    flops = training_flops_per_token(model, vocab_size)
    return Target(multiplying_parameters(model, vocab_size), tokens, flops * tokens)


def multiplying_parameters(model: Model, vocab_size: int) -> int:
    """Parameters that take part in a product with every token: all but the lookup of the input embedding."""
    return count_parameters(model, vocab_size).hidden + vocab_size * model.resolved_width


def design_ladder(campaign: Campaign, vocab_size: int, target: Target) -> tuple[Trunk, ...]:
    """Trunks, smallest first. Raises InputError when the target is too small to have a ladder below it."""
    ladder = campaign.ladder
    budgets = _geometric(ladder.smallest * target.compute, ladder.largest * target.compute, ladder.budgets)
    trunks = [_trunk(campaign, model, vocab_size, target, budgets) for model in _sizes(campaign, vocab_size, target)]
    whole = tuple(trunk for trunk in trunks if trunk is not None)
    rungs = sum(len(trunk.rungs) for trunk in whole)
    if len(whole) < FEWEST_SIZES or rungs < FEWEST_RUNGS:
        raise InputError(
            f"ladder: {len(whole)} sizes and {rungs} rungs fit below this target ({target.parameters:,} parameters, "
            f"{target.tokens:,} tokens), 3 and {FEWEST_RUNGS} are needed; raise ladder.smallest, ladder.sizes or "
            "train.tokens, lower model.head_dim (widths are multiples of it), or set ladder.sizes = 0"
        )
    return whole


def _sizes(campaign: Campaign, vocab_size: int, target: Target) -> list[Model]:
    """Distinct shapes, smallest first, near the sizes that have the target's tokens per parameter at each budget."""
    ladder, model = campaign.ladder, campaign.model
    step = math.lcm(model.head_dim, LEAST_WIDTH_STEP)
    shapes = [scaled_model(model, width) for width in range(step, model.resolved_width, step)]
    counted = {shape.resolved_width: math.log(multiplying_parameters(shape, vocab_size)) for shape in shapes}
    low, high = (target.parameters * math.sqrt(share) for share in (ladder.smallest, ladder.largest))
    chosen: set[int] = set()
    for wanted in reversed(_geometric(low, high, ladder.sizes)):
        free = [width for width in counted if width not in chosen]
        if free:
            chosen.add(min(free, key=lambda width: abs(counted[width] - math.log(wanted))))
    return [shape for shape in shapes if shape.resolved_width in chosen]


def scaled_model(model: Model, width: int) -> Model:
    """The target's shape at another width: depth, number of heads and MLP in proportion, heads of the same width."""
    share = width / model.resolved_width
    heads = max(1, round(model.resolved_heads * share))
    grouped = model.resolved_heads // model.resolved_kv_heads
    shape = {
        "depth": min(model.depth, max(LEAST_DEPTH, round(model.depth * share))),
        "width": width,
        "heads": heads,
        "kv_heads": heads // grouped if heads % grouped == 0 else heads,
        "mlp_width": max(16, round(model.resolved_mlp_width * share / 16) * 16),
    }
    return Model.model_validate(model.model_dump() | shape)


def _trunk(campaign: Campaign, model: Model, vocab_size: int, target: Target, budgets: Sequence[float]) -> Trunk | None:
    """The rungs of one size; None when no budget gives it enough steps and a sensible number of tokens."""
    flops = training_flops_per_token(model, vocab_size)
    parameters = multiplying_parameters(model, vocab_size)
    usual = target.tokens / target.parameters
    ratios = [(abs(math.log(budget / flops / parameters / usual)), budget) for budget in budgets]
    near = sorted(budget for ratio, budget in sorted(ratios)[:RUNGS_OF_SIZE] if ratio <= math.log(WIDEST_RATIO))
    if not near:
        return None
    batch = _batch_tokens(campaign, math.sqrt(near[0] * near[-1]) / flops, target)
    decay = campaign.train.schedule.decay if campaign.train.schedule.kind == "wsd" else DECAY
    rungs = [_rung(budget, round(budget / flops / batch), decay) for budget in near]
    warmup = max(1, round(campaign.train.schedule.warmup * rungs[len(rungs) // 2].steps))
    long = [rung for rung in rungs if rung.steps >= FEWEST_STEPS and rung.constant_steps > warmup]
    rungs = list({rung.steps: rung for rung in long}.values())  # budgets close together round to the same length
    if len(rungs) < 2:
        return None
    name = f"w{model.resolved_width}-d{model.depth}"
    return Trunk(name, model, parameters, flops, batch, warmup, tuple(rungs))


def _rung(budget: float, steps: int, decay: float) -> Rung:
    return Rung(budget, steps, steps - max(1, round(decay * steps)))  # with no step of its own it is never scored


def _batch_tokens(campaign: Campaign, tokens: float, target: Target) -> int:
    """Whole sequences, in proportion to the square root of the tokens.

    The critical batch grows with the data, not with the model: B ∝ D^0.47 (Zhang et al., arXiv 2410.21676, section 4).
    With it Adam's learning rate needs no change, its optimum rising with √B and falling about as fast with D.
    """
    context = campaign.model.context
    wanted = campaign.train.batch_tokens * (tokens / target.tokens) ** BATCH_EXPONENT
    return int(max(1, round(wanted / context)) * context)


def _geometric(low: float, high: float, count: int) -> list[float]:
    """`count` values from low to high, evenly spaced in their logarithm."""
    return [low * (high / low) ** (number / (count - 1)) for number in range(count)]


def trunk_campaign(campaign: Campaign, trunk: Trunk) -> Campaign:
    """Constant learning rate after the warm-up."""
    steps = trunk.constant_steps
    return _derived(campaign, trunk, steps, {"kind": "wsd", "warmup": trunk.warmup_steps / steps, "decay": 0.0})


def rung_campaign(campaign: Campaign, trunk: Trunk, rung: Rung) -> Campaign:
    """A whole run of its own: warm-up, constant, cool-down. Up to the cool-down it is the trunk, bit for bit."""
    schedule = {
        "kind": "wsd",
        "warmup": trunk.warmup_steps / rung.steps,
        "decay": (rung.steps - rung.constant_steps) / rung.steps,
        "final": campaign.train.schedule.final,
    }
    return _derived(campaign, trunk, rung.steps, schedule)


def scaled_rates(campaign: Campaign, factor: float) -> Campaign:
    """Every learning rate times `factor`."""
    document = campaign.model_dump(exclude_unset=True)
    optimizer = campaign.train.optimizer
    rates = {name: factor * getattr(optimizer, name) for name in ("learning_rate", "muon_learning_rate")}
    document.setdefault("train", {}).setdefault("optimizer", {}).update(rates)
    return Campaign.model_validate(document)


def _derived(campaign: Campaign, trunk: Trunk, steps: int, schedule: dict[str, Any]) -> Campaign:
    document = campaign.model_dump(exclude_unset=True)
    document["model"] = trunk.model.model_dump()
    document["train"] = document.get("train", {}) | {
        "tokens": steps * trunk.batch_tokens,
        "batch_tokens": trunk.batch_tokens,
        "threads": campaign.ladder.threads,
        "schedule": schedule,
    }
    document["evaluate"] = document.get("evaluate", {}) | {"every": steps}
    document["ladder"] = {"sizes": 0}
    document.pop("learners", None)  # a small run is one learner's, and without faults
    document.pop("chaos", None)
    return Campaign.model_validate(document)
