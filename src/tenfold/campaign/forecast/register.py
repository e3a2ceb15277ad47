"""A forecast is registered in the ledger before its run begins, under the run's recipe, and never rewritten."""

from collections.abc import Sequence
from dataclasses import replace

from tenfold.config import Campaign
from tenfold.data import Manifest
from tenfold.errors import TenfoldError
from tenfold.ledger import Ledger, Prediction, Run
from tenfold.train.identity import identify, is_same_recipe

SHOWN = 12  # digits of the recipe's hash in a quantity's name


def recipe_of(campaign: Campaign, manifest: Manifest) -> str:
    """Names the target: sha256 of its configuration and data."""
    return identify(campaign, manifest.digest, {}).recipe


def registered(ledger: Ledger, recipe: str) -> list[Prediction]:
    """What has been forecast about the run of this recipe; quantities without the recipe's prefix."""
    prefix = f"{recipe[:SHOWN]} "
    mine = [prediction for prediction in ledger.predictions() if prediction.quantity.startswith(prefix)]
    return [replace(prediction, quantity=prediction.quantity.removeprefix(prefix)) for prediction in mine]


def register(ledger: Ledger, recipe: str, quantities: Sequence[Prediction]) -> None:
    """Write the whole forecast or nothing."""
    prefixed = [
        replace(q, quantity=f"{recipe[:SHOWN]} {q.quantity}", basis=q.basis | {"recipe": recipe}) for q in quantities
    ]
    ledger.predict_together(prefixed)


def training_run(ledger: Ledger, campaign: Campaign, manifest: Manifest) -> Run | None:
    """The target's training as the ledger knows it, if it has begun."""
    identity = identify(campaign, manifest.digest, {})
    return next((r for r in ledger.runs() if r.kind == "train" and is_same_recipe(r.description, identity)), None)


def refuse_after_the_fact(ledger: Ledger, campaign: Campaign, manifest: Manifest) -> None:
    """Raises TenfoldError when the target's training has begun: what is said now would be no forecast."""
    run = training_run(ledger, campaign, manifest)
    if run is not None:
        raise TenfoldError(
            f"{ledger.path}: training of this campaign has begun (run {run.fingerprint[:12]}), so it can no longer "
            "be forecast; forecast before `tenfold train`, or in another directory"
        )


def settle(ledger: Ledger, recipe: str, outcomes: dict[str, float]) -> list[Prediction]:
    """Write outcomes beside their forecasts, those that are not settled yet. Returns what is settled."""
    for prediction in registered(ledger, recipe):
        if prediction.outcome is None and prediction.quantity in outcomes:
            ledger.settle(f"{recipe[:SHOWN]} {prediction.quantity}", outcomes[prediction.quantity])
    return [prediction for prediction in registered(ledger, recipe) if prediction.outcome is not None]


def level_inside(prediction: Prediction) -> str:
    """The narrowest interval that holds the outcome: "0.5", "0.8", "0.95" or "outside"."""
    outcome = prediction.outcome
    for level, (low, high) in sorted(prediction.intervals.items(), key=lambda item: float(item[0])):
        if outcome is not None and low <= outcome <= high:
            return level
    return "outside"
