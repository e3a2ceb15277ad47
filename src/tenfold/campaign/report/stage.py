"""The report stage: report.json and report.html from what the other stages left behind; nothing is measured anew."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tenfold.campaign.report.forecasts import calibration_record, forecast_record, ladder_record, quantity_record
from tenfold.campaign.report.learners import learners_record
from tenfold.config import Campaign
from tenfold.core import InputError, read_json, shown, write_json, write_text
from tenfold.data import STAGES, Manifest, StageRecord, Workspace, load_record
from tenfold.experiments import changes_of, finished_ladder, fit_laws, planned, registered, target_identity, target_plan
from tenfold.ledger import LOSS, MFU, OVERHEAD, TOKENS_PER_SECOND, Event, Incident, Ledger, Run
from tenfold.pages import read_plan, render
from tenfold.train import RunPlan, Trained, TrainResult, trained_as

Curve = list[tuple[int, float]]
"""(step, value), in order of step."""


def report(workspace: Workspace) -> dict[str, Any]:
    """Write report.json and report.html. Returns where they are.

    Raises InputError when the campaign is not trained or not scored.
    """
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    trained = trained_as(workspace)
    evaluation = read_json(files.evaluation) or {}
    if evaluation.get("weights_digest") != trained.result.weights_digest:
        raise InputError(
            f"{files.directory}: the trained model is not scored yet; run `tenfold eval {files.directory}`"
        )
    plan = target_plan(campaign, manifest)
    with workspace.ledger(read_only=True) as ledger:
        collected = _collected(workspace, plan, trained, evaluation, ledger)
        collected |= _forecasts(workspace, trained, ledger) | changes_of(ledger)
        collected["learners"] = learners_record(campaign, plan, files.learners, ledger.events())
    collected["layout_plan"] = _plan(workspace)
    write_json(files.report_json, collected)
    write_text(files.report_html, render(collected))
    workspace.console.say(f"report: {files.report_html}")
    return {"report": str(files.report_html)}


def _collected(
    workspace: Workspace,
    plan: RunPlan,
    trained: Trained,
    evaluation: Mapping[str, Any],
    ledger: Ledger,
) -> dict[str, Any]:
    """Everything the report shows. Raises InputError when the ledger does not know the run."""
    campaign, manifest = workspace.campaign, workspace.manifest
    audit = read_json(workspace.files.audit) or {}
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
        "data": _data(manifest, load_record(workspace.files.data), audit, result),
        "throughput": _throughput(plan, curves, run, result),
        "weights_digest": result.weights_digest,
        "model": _model(campaign, manifest, plan),
        "run": _run(run, result),
        "curves": curves,
        "events": [_event(event) for event in ledger.events(run.id)],
        "incidents": [_incident(incident) for incident in ledger.incidents(run.id)],
        "environment": run.description["environment"],
        "config": shown(campaign.model_dump(mode="json")),
    }


def _data(
    manifest: Manifest, build: Sequence[StageRecord], audit: Mapping[str, Any], result: TrainResult
) -> dict[str, Any]:
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
        "build": [asdict(stage) | {"stage": STAGES.get(stage.stage, stage.stage)} for stage in build],
    }


def _throughput(plan: RunPlan, curves: Mapping[str, Curve], run: Run, result: TrainResult) -> dict[str, Any]:
    """Rates are medians over the run; what it ran on is what it said of itself then."""
    numerics = run.description["numerics"]

    def median(name: str) -> float | None:
        values = [value for _, value in curves.get(name, [])]
        return statistics.median(values) if values else None

    return {
        "tokens_per_second": median(TOKENS_PER_SECOND),
        "mfu": median(MFU),
        "overhead": median(OVERHEAD),
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


def _plan(workspace: Workspace) -> dict[str, Any] | None:
    """What plan.json holds; null where there is none. A broken one costs its section, not the report."""
    try:
        plan = read_plan(workspace.files.plan)
    except InputError as error:
        workspace.console.warn(f"{error}; the report is without the plan")
        return None
    return plan.to_dict() if plan else None


def _forecasts(workspace: Workspace, trained: Trained, ledger: Ledger) -> dict[str, Any]:
    """The keys of report.json about ladder, forecast and settlement; null where there is none."""
    campaign, manifest = workspace.campaign, workspace.manifest
    ladder, laws = finished_ladder(workspace), None
    try:
        laws = fit_laws(ladder, manifest, campaign.seed) if ladder else None
    except InputError as error:
        workspace.console.warn(f"{error}; the report is without the ladder")
    target = target_identity(campaign, manifest)
    predictions = registered(ledger, target)
    plans = [quantity_record(prediction) for prediction in planned(ledger, target)]
    run = next(run for run in ledger.runs() if run.fingerprint == trained.result.fingerprint)
    losses = ledger.metric(run.id, LOSS)
    plan, log_every = target_plan(campaign, manifest), campaign.train.log_every
    law = laws.by_holdout[laws.holdout] if laws else None
    forecast = forecast_record(predictions, law, plan, log_every, losses, run.started_at) if predictions else None
    if forecast:
        forecast["quantities"] += plans  # in one table with the others
    return {
        "ladder": ladder_record(ladder, laws, manifest) if ladder and laws else None,
        "forecast": forecast,
        "plan": plans,
        "calibration": calibration_record(ledger),
    }
