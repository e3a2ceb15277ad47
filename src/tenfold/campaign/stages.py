"""Corpus, training and export: the stages that each read what lies in the directory, and do nothing when it is done.

The stages between them are in rooms of their own: `experiments` forecasts and settles, `evaluate` scores.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tenfold.config import with_new_names
from tenfold.core import InputError, ProgressLines, TenfoldError, write_json
from tenfold.data import (
    Inputs,
    Manifest,
    Workspace,
    asked_for,
    audit,
    audit_passed,
    build_corpus,
    funnel_line,
    loss_warnings,
)
from tenfold.evaluate import HoldoutScorer, HoldoutScores, holdout_scorer
from tenfold.experiments import open_watcher, target_identity
from tenfold.learners import train_with_learners
from tenfold.model import save_huggingface
from tenfold.train import (
    ELASTIC,
    ConsoleLines,
    Journal,
    Learner,
    Loop,
    Observer,
    Ranks,
    RunIdentity,
    Throughput,
    TrainResult,
    build_learner,
    check_same_recipe,
    checkpointer_of,
    finished_training,
    journal_of,
    load_trained,
    record_training,
    saved_run,
    trained_as,
)


def prepare_data(workspace: Workspace, *, keep_trained: bool = False) -> Manifest:
    """Build the corpus if its inputs changed, and prove its isolation.

    With `keep_trained`, a corpus of the same [data] and seed that a run was trained on stays even if files it was
    built from changed since, and that is said. Without it such a corpus makes way for the new one: it is kept beside
    it, and what was trained on it goes on using it.
    """
    campaign, files = workspace.campaign, workspace.files
    trained, kinds = _trained_corpus(workspace)
    if trained and keep_trained and trained.asked_for == asked_for(campaign.data, campaign.seed):
        manifest = trained
        _say_what_changed(workspace, manifest, "train" in kinds)
    else:
        keep = files.corpora / trained.digest[:12] if trained and "train" in kinds else None
        progress = ProgressLines(workspace.console)
        manifest = build_corpus(campaign.data, campaign.seed, files.data, files.directory, progress, keep)
        if trained and keep and manifest.digest != trained.digest:
            workspace.console.warn(
                f"{files.data} is another corpus now; what was trained here goes on using the one before, kept as "
                f"{keep}. To train on the new one, begin another campaign: {_begin_another(files.directory)}"
            )
    _say_losses(workspace, manifest)
    if not audit_passed(files, manifest):
        audit_data(workspace)
    return manifest


def _say_losses(workspace: Workspace, manifest: Manifest) -> None:
    """What was read, kept and lost; a warning where much was lost."""
    data, console = workspace.campaign.data, workspace.console
    console.say(f"data: {funnel_line(manifest.funnel)}")
    for line in loss_warnings(manifest.funnel, data.read.warn_lost, data.clean.min_bytes):
        console.warn(line)


def _trained_corpus(workspace: Workspace) -> tuple[Manifest | None, set[str]]:
    """The corpus that lies here, if the ledger knows a run on it; and the kinds of those runs."""
    files = workspace.files
    if not ((files.data / "manifest.json").exists() and files.ledger.exists()):
        return None, set()
    manifest = Manifest.load(files.data)
    with workspace.ledger(read_only=True) as ledger:
        kinds = {run.kind for run in ledger.runs() if run.description["manifest"] == manifest.digest}
    return (manifest if kinds else None), kinds


def _say_what_changed(workspace: Workspace, manifest: Manifest, has_begun: bool) -> None:
    """A corpus that is kept although its files changed would else be taken for one of today's files."""
    campaign, directory = workspace.campaign, workspace.files.directory
    try:
        now = Inputs.of(campaign.data, directory)
    except InputError as error:
        workspace.console.warn(f"{error}; going on with the corpus as it was built")
        return
    if now.differs(manifest):
        anew = _begin_another(directory) if has_begun else f"`tenfold data {directory}` first"
        workspace.console.warn(
            f"the text has changed since the corpus was built, {Inputs(**manifest.inputs)} then, {now} now. This run "
            f"goes on with the corpus as it is; to train on the text of now: {anew}"
        )


def _begin_another(directory: Path) -> str:
    return f"`tenfold init NEW --like {directory}`, then `tenfold run NEW`"


def refuse_other_run(workspace: Workspace) -> None:
    """Raises InputError where what was begun here is of another configuration or corpus, before the ladder is trained.

    A finished run of this recipe may have lost its checkpoints: it is trained again.
    """
    saved = saved_run(workspace)
    if saved is None:
        return
    where, identity = saved
    mine = target_identity(workspace.campaign, workspace.manifest)
    config = _elastic(identity["config"], mine)
    check_same_recipe({**identity, "config": config, "manifest": mine.manifest}, mine, where)
    if identity["manifest"] != mine.manifest:
        directory = workspace.files.directory
        raise InputError(
            f"{where}: trained on another corpus than {workspace.files.data}; to train on this one, begin another "
            f"campaign: {_begin_another(directory)}; or set [data] and seed back"
        )


def _elastic(saved: Mapping[str, Any], mine: RunIdentity) -> dict[str, Any]:
    """A saved configuration with as many learners as there are now, where it has any: their number may change."""
    config = with_new_names(saved)
    learners, now = config.get("learners", {}), mine.config["learners"]
    if learners.get("count") and now["count"]:
        config = {**config, "learners": {**learners, **{key: now[key] for key in ELASTIC}}}
    return config


def audit_data(workspace: Workspace) -> Mapping[str, Any]:
    """Check the corpus again from its shards alone. Raises TenfoldError naming the check that failed."""
    files, console = workspace.files, workspace.console
    manifest = Manifest.load(files.data)
    report = audit(files.data)
    for check in report.checks:
        console.say(f"audit: {check.name}: {check.checked} {'passed' if check.passed else 'FAILED'}  {check.detail}")
    record = {"manifest": manifest.to_dict(), **asdict(report), "ok": report.ok}
    write_json(files.audit, record)
    if not report.ok:
        failed = next(check for check in report.checks if not check.passed)
        raise TenfoldError(f"{files.data}: audit failed: {failed.name}: {failed.detail}")
    return record


def train(workspace: Workspace, ranks: Ranks) -> TrainResult:
    """Train the target, going on from where it stopped. Does nothing when it is done already.

    With [learners] it is trained by several processes, which read campaign.toml and the overrides themselves.
    """
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    with checkpointer_of(workspace, ranks) as checkpointer:
        finished = finished_training(workspace, checkpointer)
        if finished is not None:
            workspace.console.say(f"trained already, {finished.steps} steps: {files.train_result}")
            return finished
        scorer = holdout_scorer(campaign, files, manifest)
        if campaign.learners.count and ranks.world_size == 1:
            checkpointer.prepare()
            every = campaign.train.log_every
            result, identity = train_with_learners(
                workspace, checkpointer, scorer, lambda identity, plan: open_watcher(files, identity, plan, every)
            )
            record_training(workspace, result, identity)
            return result
        learner = build_learner(campaign, files.data, manifest, ranks)
        with journal_of(learner, files) as journal:
            result = Loop(learner, checkpointer, _observers(workspace, learner, journal, scorer)).run()
    if ranks.is_first:
        record_training(workspace, result, learner.identity)
    return result


def _observers(workspace: Workspace, learner: Learner, journal: Journal, scorer: HoldoutScorer) -> list[Observer]:
    """What watches the target's run: ledger, the forecast's band if one is registered, console, holdouts."""
    console, throughput = workspace.console, Throughput(learner, journal)
    band = None
    if learner.ranks.is_first:
        every, recorded = learner.train.log_every, journal.recorded
        band = open_watcher(workspace.files, learner.identity, learner.plan, every, recorded)
    observers: list[Observer] = [throughput, journal, *([band] if band else [])]
    observers += [ConsoleLines(console, learner, throughput, beside=lambda: str(band or ""))]
    return [*observers, HoldoutScores(learner, scorer, journal, throughput, console)]


def export(workspace: Workspace, destination: Path) -> None:
    """Write the trained model in Hugging Face format."""
    manifest = workspace.manifest
    model = load_trained(workspace, trained_as(workspace), torch.device("cpu"))
    tokenizer = (workspace.files.data / manifest.tokenizer_file).read_text(encoding="utf-8")
    save_huggingface(model, tokenizer, manifest.end_of_document, destination)
