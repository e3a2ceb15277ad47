"""A forecast is registered in the ledger before its run begins, under the run's recipe, and never rewritten."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
    """Write the whole forecast or nothing, with a hash over all that it says."""
    said = {"recipe": recipe, "digest": digest_of(quantities)}
    prefixed = [replace(q, quantity=f"{recipe[:SHOWN]} {q.quantity}", basis=q.basis | said) for q in quantities]
    ledger.predict_together(prefixed)


def digest_of(quantities: Sequence[Prediction]) -> str:
    """sha256 over quantities, units, medians, intervals and what they rest on."""
    said = [
        [q.quantity, q.unit, q.median, sorted((level, list(edges)) for level, edges in q.intervals.items()), _rest(q)]
        for q in quantities
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _rest(quantity: Prediction) -> dict[str, Any]:
    return {key: value for key, value in quantity.basis.items() if key not in ("recipe", "digest")}


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
    """Write outcomes beside their forecasts, those that are not settled yet. Returns what is settled.

    Raises TenfoldError when the forecast is not what was registered.
    """
    found = registered(ledger, recipe)
    if found and digest_of(found) != found[0].basis["digest"]:
        raise TenfoldError(f"{ledger.path}: the registered forecast was changed afterwards; it cannot be settled")
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
