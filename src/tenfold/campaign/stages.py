"""Training and export: the stages that each read what lies in the directory, and do nothing when it is done.

The corpus before them is in data.py; the stages between are in rooms of their own: `experiments` forecasts and settles,
`evaluate` scores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tenfold.campaign.data import another_campaign
from tenfold.config import with_new_names
from tenfold.core import InputError
from tenfold.data import Workspace, load_tokenizer
from tenfold.evaluate import BestKept, HoldoutScores, holdout_scorer
from tenfold.experiments import open_watcher, target_identity
from tenfold.learners import train_with_learners
from tenfold.model import save_huggingface
from tenfold.monitor import exporters_of, watched
from tenfold.train import (
    ELASTIC,
    Best,
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
            f"campaign: {another_campaign(directory)}; or set [data] and seed back"
        )


def _elastic(saved: Mapping[str, Any], mine: RunIdentity) -> dict[str, Any]:
    """A saved configuration with as many learners as there are now, where it has any: their number may change."""
    config = with_new_names(saved)
    learners, now = config.get("learners", {}), mine.config["learners"]
    if learners.get("count") and now["count"]:
        config = {**config, "learners": {**learners, **{key: now[key] for key in ELASTIC}}}
    return config


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
            record_training(workspace, result, identity)
            return result
        learner = build_learner(campaign, files.data, manifest, ranks)
        kept = campaign.checkpoint.keep_best and BestKept(campaign.checkpoint.keep_best, checkpointer.keep)
        with journal_of(learner, files) as journal:
            throughput = Throughput(learner, journal)
            scores = HoldoutScores(learner, scorer, journal, throughput, workspace.console, kept or None)
            sending = exporters_of(learner, journal, files)
            observers = [*_observers(workspace, learner, journal, throughput), scores, *sending]
            result = Loop(learner, checkpointer, watched(learner, journal, files, workspace.console, observers)).run()
    if ranks.is_first:
        record_training(workspace, result, learner.identity, _best_of(scores, workspace))
    return result


def _best_of(scores: HoldoutScores, workspace: Workspace) -> Best | None:
    """The best checkpoint, if one is kept; says which it is."""
    name = workspace.campaign.checkpoint.keep_best
    lowest = scores.watch.lowest.get(name or "")
    if name is None or lowest is None:
        return None
    workspace.console.say(
        f"best checkpoint by {name}: step {lowest.step}, {lowest.bits_per_byte:.3f} bits per byte; it is kept for "
        "`tenfold export --best` and `tenfold eval --best`"
    )
    return Best(name, lowest.step, lowest.bits_per_byte)


def _observers(workspace: Workspace, learner: Learner, journal: Journal, throughput: Throughput) -> list[Observer]:
    """What watches the target's run beside the holdouts: ledger, the forecast's band if one is registered, console."""
    band = None
    if learner.ranks.is_first:
        every, recorded = learner.train.log_every, journal.recorded
        band = open_watcher(workspace.files, learner.identity, learner.plan, every, recorded)
    lines = ConsoleLines(workspace.console, learner, throughput, beside=lambda: str(band or ""))
    return [throughput, journal, *([band] if band else []), lines]


def export(workspace: Workspace, destination: Path, *, best: bool = False) -> None:
    """Write the trained model, or its best checkpoint, in Hugging Face format."""
    manifest = workspace.manifest
    model = load_trained(workspace, trained_as(workspace), torch.device("cpu"), best=best)
    tokenizer = load_tokenizer(workspace.files.data, manifest)
    save_huggingface(model, tokenizer.to_json(), manifest.end_of_document, destination)
