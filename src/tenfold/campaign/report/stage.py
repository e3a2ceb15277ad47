"""The report stage: report.json and report.html from what the other stages left."""

from typing import Any

from tenfold.campaign.report.collect import collect
from tenfold.campaign.report.forecasts import calibration_record, forecast_record, ladder_record, quantity_record
from tenfold.campaign.report.learners import learners_record
from tenfold.core.errors import InputError
from tenfold.core.files import read_json, write_json, write_text
from tenfold.data.workspace import Workspace
from tenfold.experiments.derisk import changes_of
from tenfold.experiments.forecast import fit_laws, target_plan
from tenfold.experiments.ladder import finished_ladder
from tenfold.experiments.register import planned, registered, target_identity
from tenfold.ledger import Ledger
from tenfold.pages.plan import read_plan
from tenfold.pages.report import render
from tenfold.train.finished import Trained, trained_as


def report(workspace: Workspace) -> dict[str, Any]:
    """Write report.json and report.html. Returns where they are.

    Raises InputError when the campaign is not trained or not scored.
    """
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    trained = trained_as(campaign, manifest, files)
    evaluation, audited = read_json(files.evaluation) or {}, read_json(files.audit) or {}
    if evaluation.get("weights_digest") != trained.result.weights_digest:
        raise InputError(
            f"{files.directory}: the trained model is not scored yet; run `tenfold eval {files.directory}`"
        )
    plan = target_plan(campaign, manifest)
    with workspace.ledger(read_only=True) as ledger:
        collected = collect(campaign, manifest, plan, trained, evaluation, audited, ledger)
        collected |= _forecasts(workspace, trained, ledger) | changes_of(ledger)
        collected["learners"] = learners_record(campaign, plan, files.learners, ledger.events())
    collected["layout_plan"] = _plan(workspace)
    write_json(files.report_json, collected)
    write_text(files.report_html, render(collected))
    workspace.console.say(f"report: {files.report_html}")
    return {"report": str(files.report_html)}


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
    losses = ledger.metric(run.id, "train/loss")
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
