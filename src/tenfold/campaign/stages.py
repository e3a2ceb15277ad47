"""Corpus, training and export: the stages that each read what lies in the directory, and do nothing when it is done.

The stages between them are in rooms of their own: `experiments` forecasts and settles, `evaluate` scores.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tenfold.core import ProgressLines, TenfoldError, write_json
from tenfold.data import Manifest, Workspace, asked_for, audit, audit_passed, build_corpus
from tenfold.evaluate import HoldoutScorer, HoldoutScores, holdout_scorer
from tenfold.experiments import open_watcher
from tenfold.learners import train_with_learners
from tenfold.model import save_huggingface
from tenfold.train import (
    ConsoleLines,
    Journal,
    Learner,
    Loop,
    Observer,
    Ranks,
    Throughput,
    TrainResult,
    build_learner,
    checkpointer_of,
    finished_training,
    journal_of,
    load_trained,
    record_training,
    trained_as,
)


def prepare_data(workspace: Workspace, *, keep_trained: bool = False) -> Manifest:
    """Build the corpus if its inputs changed, and prove its isolation.

    With `keep_trained`, a corpus of the same [data] and seed that a run was trained on stays even if files it was
    built from changed since: replacing it would leave that run without its corpus.
    """
    campaign, files = workspace.campaign, workspace.files
    manifest = _trained_corpus(workspace) if keep_trained else None
    if manifest is None:
        progress = ProgressLines(workspace.console)
        try:
            manifest = build_corpus(campaign.data, campaign.seed, files.data, files.directory, progress)
        except MemoryError as error:
            raise TenfoldError(
                f"{files.directory}: out of memory while the corpus was built; name fewer or smaller [data] sources, "
                "or give it more memory. No setting of training changes that"
            ) from error
    if not audit_passed(files, manifest):
        audit_data(workspace)
    return manifest


def _trained_corpus(workspace: Workspace) -> Manifest | None:
    """The corpus that lies here, if it is what was asked for and the ledger knows a run on it."""
    campaign, files = workspace.campaign, workspace.files
    if not ((files.data / "manifest.json").exists() and files.ledger.exists()):
        return None
    manifest = Manifest.load(files.data)
    if manifest.asked_for != asked_for(campaign.data, campaign.seed):
        return None
    with workspace.ledger(read_only=True) as ledger:
        trained_on = {run.description["manifest"] for run in ledger.runs()}
    return manifest if manifest.digest in trained_on else None


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
            every = campaign.train.log_every
            result, identity = train_with_learners(
                workspace, checkpointer, scorer, lambda identity, plan: open_watcher(files, identity, plan, every)
            )
            record_training(files, result, identity)
            return result
        learner = build_learner(campaign, files.data, manifest, ranks)
        with journal_of(learner, files) as journal:
            result = Loop(learner, checkpointer, _observers(workspace, learner, journal, scorer)).run()
    if ranks.is_first:
        record_training(files, result, learner.identity)
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
