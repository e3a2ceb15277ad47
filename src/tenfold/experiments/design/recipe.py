"""The campaign of a trunk or a rung: the target's, with another shape, length and schedule."""

from typing import Any

from tenfold.config import Campaign
from tenfold.experiments.design.design import Rung, Trunk


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
