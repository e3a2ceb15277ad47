"""Which forecasts of a target the ledger holds: those of `tenfold predict` and those of a plan of this machine."""

from collections.abc import Callable, Mapping
from typing import Any

from tenfold.config import Campaign
from tenfold.core.errors import TenfoldError
from tenfold.data import Manifest
from tenfold.ledger import ForecastRegistry, Ledger, Prediction, Run
from tenfold.train.identity import RunIdentity, identify, is_same_recipe


def target_identity(campaign: Campaign, manifest: Manifest) -> RunIdentity:
    """Names the target, by configuration and data."""
    return identify(campaign, manifest.digest, {})


def same_as(target: RunIdentity) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a saved identity is the target's; an upgrade that adds keys with defaults changes nothing."""
    return lambda saved: is_same_recipe(saved, target)


def saved_identity(target: RunIdentity) -> dict[str, Any]:
    """What `same_as` compares with, as the ledger keeps it."""
    return {"config": target.config, "manifest": target.manifest}


def forecasts_in(ledger: Ledger) -> ForecastRegistry:
    """What `tenfold predict` registered: losses by law, the loss curve, the training time."""
    return ForecastRegistry(ledger, "recipe", "identity")


def plans_in(ledger: Ledger) -> ForecastRegistry:
    """What a plan of this machine registered: step time and memory."""
    return ForecastRegistry(ledger, "planned", "planned_identity")


def registered(ledger: Ledger, target: RunIdentity) -> list[Prediction]:
    """What has been forecast about the run of this configuration and data, the loss on the first holdout first."""
    return forecasts_in(ledger).registered(same_as(target))


def planned(ledger: Ledger, target: RunIdentity) -> list[Prediction]:
    """What has been planned about the run of this configuration and data."""
    return plans_in(ledger).registered(same_as(target))


def training_run(ledger: Ledger, target: RunIdentity) -> Run | None:
    """The target's training as the ledger knows it, if it has begun."""
    return next((r for r in ledger.runs() if r.kind == "train" and is_same_recipe(r.description, target)), None)


def refuse_after_the_fact(ledger: Ledger, target: RunIdentity) -> None:
    """Raises TenfoldError when the target's training has begun: what is said now would be no forecast."""
    run = training_run(ledger, target)
    if run is not None:
        raise TenfoldError(
            f"{ledger.path}: training of this campaign has begun (run {run.fingerprint[:12]}), so it can no longer "
            "be forecast; forecast before `tenfold train`, or in another directory"
        )


def level_inside(prediction: Prediction) -> str:
    """The narrowest interval that holds the outcome: "0.5", "0.8", "0.95" or "outside"."""
    outcome = prediction.outcome
    for level, (low, high) in sorted(prediction.intervals.items(), key=lambda item: float(item[0])):
        if outcome is not None and low <= outcome <= high:
            return level
    return "outside"
