"""The registry of forecasts: written to the ledger before their run begins, settled after it, never rewritten."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tenfold.config import Campaign
from tenfold.core.errors import TenfoldError
from tenfold.data import Manifest
from tenfold.ledger import Ledger, Prediction, Run
from tenfold.train.identity import RunIdentity, identify, is_same_recipe

SHOWN = 12  # digits of the recipe's hash in a quantity's name
IDENTITY = "identity"  # of the first quantity's basis: an upgrade that adds keys with defaults must find it again


def target_identity(campaign: Campaign, manifest: Manifest) -> RunIdentity:
    """Names the target, by configuration and data."""
    return identify(campaign, manifest.digest, {})


def registered(ledger: Ledger, target: RunIdentity) -> list[Prediction]:
    """What has been forecast about the run of this configuration and data, the loss on the first holdout first."""
    every = ledger.predictions()
    saved = (p.basis for p in every if IDENTITY in p.basis)
    recipe = next((basis["recipe"] for basis in saved if is_same_recipe(basis[IDENTITY], target)), None)
    mine = [prediction for prediction in every if prediction.basis.get("recipe") == recipe is not None]
    return [replace(p, quantity=p.quantity.split(" ", 1)[1]) for p in mine]


def register(ledger: Ledger, target: RunIdentity, quantities: Sequence[Prediction]) -> None:
    """Write the whole forecast or nothing, with a hash over all that it says."""
    first, *rest = quantities
    identity = {IDENTITY: {"config": target.config, "manifest": target.manifest}}
    said = [replace(first, basis=first.basis | identity), *rest]
    name = {"recipe": target.recipe, "digest": digest_of(said)}
    ledger.predict_together([replace(q, quantity=_full_name(target.recipe, q), basis=q.basis | name) for q in said])


def _full_name(recipe: str, quantity: Prediction) -> str:
    """The ledger's quantity: every target has its own."""
    return f"{recipe[:SHOWN]} {quantity.quantity}"


def digest_of(quantities: Sequence[Prediction]) -> str:
    """sha256 over quantities, units, medians, intervals and what they rest on."""
    said = [
        [q.quantity, q.unit, q.median, sorted((level, list(edges)) for level, edges in q.intervals.items()), _rest(q)]
        for q in quantities
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _rest(quantity: Prediction) -> dict[str, Any]:
    return {key: value for key, value in quantity.basis.items() if key not in ("recipe", "digest")}


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


def settle(ledger: Ledger, target: RunIdentity, outcomes: Mapping[str, float]) -> list[Prediction]:
    """Write outcomes beside their forecasts, those that are not settled yet. Returns what is settled.

    Raises TenfoldError when the forecast is not what was registered.
    """
    found = registered(ledger, target)
    if found and digest_of(found) != found[0].basis["digest"]:
        raise TenfoldError(f"{ledger.path}: the registered forecast was changed afterwards; it cannot be settled")
    for prediction in found:
        if prediction.outcome is None and prediction.quantity in outcomes:
            ledger.settle(_full_name(found[0].basis["recipe"], prediction), outcomes[prediction.quantity])
    return [prediction for prediction in registered(ledger, target) if prediction.outcome is not None]


def level_inside(prediction: Prediction) -> str:
    """The narrowest interval that holds the outcome: "0.5", "0.8", "0.95" or "outside"."""
    outcome = prediction.outcome
    for level, (low, high) in sorted(prediction.intervals.items(), key=lambda item: float(item[0])):
        if outcome is not None and low <= outcome <= high:
            return level
    return "outside"
