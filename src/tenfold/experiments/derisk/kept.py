"""Changes as the ledger keeps them: from and to records, and what the report shows of them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.config import Campaign
from tenfold.data import Manifest
from tenfold.ledger import Ledger, TriedChange
from tenfold.scaling.assessment import AssessedTarget, Assessment, Scale
from tenfold.scaling.effect import Worth
from tenfold.train.identity import identify

SHOWN = ("name", "description", "set", "stack", "decided_at", "assessment")


def ladder_recipe(campaign: Campaign, manifest: Manifest) -> str:
    """Hash of everything but the change that its worth depends on: assessments of one recipe compare."""
    config = identify(campaign, manifest.digest, {}).config
    ladder = [campaign.ladder.model_dump(mode="json"), campaign.evaluate.stride]
    return hashlib.sha256(json.dumps([config, manifest.digest, ladder], sort_keys=True).encode()).hexdigest()


def changes_of(ledger: Ledger) -> dict[str, Any]:
    """Keys `changes` and `stack` of report.json: those of the recipe decided on last, and its last check of a stack."""
    every = ledger.changes()
    changes = [change for change in every if change.recipe == every[-1].recipe]
    checks = [change.stack_check for change in changes if change.stack_check is not None]
    shown = [{key: getattr(change, key) for key in SHOWN} for change in changes]
    return {"changes": shown, "stack": checks[-1] if checks else None}


def same_recipe(changes: Sequence[TriedChange], recipe: str) -> dict[str, TriedChange]:
    """By name, the changes tried on one recipe."""
    return {change.name: change for change in changes if change.recipe == recipe}


def record_of(assessment: Assessment) -> dict[str, Any]:
    """JSON values; a noise that is not known is null."""
    noise = assessment.noise
    return assessment.record() | {"noise": noise if math.isfinite(noise) else None}


def assessment_of(record: Mapping[str, Any]) -> Assessment:
    """Back from `record_of`."""
    target = {key: record["at_target"][key] for key in AssessedTarget.__dataclass_fields__}
    worths: dict[str, Any] = {key: _worth(record[key]) for key in ("slope_per_decade", "pooled", "at_target")}
    plain = {key: record[key] for key in ("verdict", "why", "trend", "correlation", "degrees_of_freedom", "seeds")}
    noise = math.nan if record["noise"] is None else record["noise"]
    scales = tuple(_scale(scale) for scale in record["scales"])
    return Assessment(target=AssessedTarget(**target), scales=scales, noise=noise, **worths, **plain)


def _worth(record: Mapping[str, Any]) -> Worth:
    return Worth(record["value"], {float(level): (low, high) for level, (low, high) in record["intervals"].items()})


def _scale(record: Mapping[str, Any]) -> Scale:
    plain = {key: record[key] for key in ("rung", "trunk", "compute", "seeds", "capped")}
    return Scale(worth=_worth(record), **plain)
