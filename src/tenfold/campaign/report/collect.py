"""What report.json holds: put together from what the stages left behind, nothing measured anew."""

import statistics
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.data import Manifest
from tenfold.ledger import Event, Incident, Ledger, Run
from tenfold.train.finished import Trained
from tenfold.train.loop import TrainResult
from tenfold.train.plan import RunPlan

Curve = list[tuple[int, float]]
"""(step, value), in order of step."""


def collect(
    campaign: Campaign,
    manifest: Manifest,
    plan: RunPlan,
    trained: Trained,
    evaluation: Mapping[str, Any],
    audit: Mapping[str, Any],
    ledger: Ledger,
) -> dict[str, Any]:
    """Everything the report shows. Raises InputError when the ledger does not know the run."""
    result = trained.result
    run = next((run for run in ledger.runs() if run.fingerprint == result.fingerprint), None)
    if run is None:
        raise InputError(
            f"{ledger.path}: does not know this run; put back the ledger it was trained with, or delete the "
            "checkpoints and train again"
        )
    curves = {name: ledger.metric(run.id, name) for name in ledger.metric_names(run.id)}
    return {
        "campaign": campaign.name,
        "holdouts": evaluation["holdouts"],
        "data": _data(manifest, audit, result),
        "throughput": _throughput(plan, curves, run, result),
        "weights_digest": result.weights_digest,
        "model": _model(campaign, manifest, plan),
        "run": _run(run, result),
        "curves": curves,
        "events": [_event(event) for event in ledger.events(run.id)],
        "incidents": [_incident(incident) for incident in ledger.incidents(run.id)],
        "environment": run.description["environment"],
        "config": campaign.model_dump(mode="json"),
    }


def _data(manifest: Manifest, audit: Mapping[str, Any], result: TrainResult) -> dict[str, Any]:
    size = sum(source.bytes for source in manifest.sources)
    return {
        "funnel": manifest.funnel,
        "sources": [asdict(source) for source in manifest.sources],
        "holdouts": [asdict(holdout) for holdout in manifest.holdouts],
        "tokens": manifest.tokens,
        "bytes": size,
        "bytes_per_token": size / manifest.tokens,
        "epochs": result.tokens / manifest.tokens,
        "vocab_size": manifest.vocab_size,
        "manifest": manifest.digest,
        "audit": audit["checks"],
    }


def _throughput(plan: RunPlan, curves: Mapping[str, Curve], run: Run, result: TrainResult) -> dict[str, Any]:
    """Rates are medians over the run; what it ran on is what it said of itself then."""
    numerics = run.description["numerics"]

    def median(name: str) -> float | None:
        values = [value for _, value in curves.get(f"train/{name}", [])]
        return statistics.median(values) if values else None

    return {
        "tokens_per_second": median("tokens_per_second"),
        "mfu": median("mfu"),
        "overhead": median("overhead"),
        "flops_per_token": plan.flops_per_token,
        "seconds": result.seconds,
        "threads": numerics["threads"],
        "compute_dtype": numerics["compute_dtype"],
        "compiled": numerics["compiled"],
    }


def _model(campaign: Campaign, manifest: Manifest, plan: RunPlan) -> dict[str, Any]:
    shape = campaign.model
    return {
        "parameters": plan.parameters,
        "depth": shape.depth,
        "width": shape.resolved_width,
        "heads": shape.resolved_heads,
        "kv_heads": shape.resolved_kv_heads,
        "mlp_width": shape.resolved_mlp_width,
        "context": shape.context,
        "vocab_size": manifest.vocab_size,
        "tied_embeddings": shape.tied_embeddings,
    }


def _run(run: Run, result: TrainResult) -> dict[str, Any]:
    return {
        "fingerprint": run.fingerprint,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "status": run.status,
        "steps": result.steps,
        "tokens": result.tokens,
        "code": run.description["code"],
        "numerics": run.description["numerics"],
    }


def _event(event: Event) -> dict[str, Any]:
    return {"at": event.at, "kind": event.kind, "message": event.message}


def _incident(incident: Incident) -> dict[str, Any]:
    return {"at": incident.opened_at, **incident.to_dict()}
