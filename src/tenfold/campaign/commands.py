"""What each command of the command line does, on one campaign directory."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenfold.campaign import stages
from tenfold.campaign.data import audit_data, prepare_data, show_samples, tell_repetition
from tenfold.campaign.report.stage import report as write_report
from tenfold.core import InputError, TenfoldError
from tenfold.data import Workspace, open_workspace
from tenfold.evaluate import evaluate_trained
from tenfold.experiments import (
    derisk,
    forecast_lines,
    join_ladder,
    predict,
    predict_before_training,
    settle_forecast,
    settle_plan,
    work_for_parent,
)
from tenfold.experiments import run_ladder as train_ladder
from tenfold.learners import replay
from tenfold.train import as_trained, joined_ranks, on_corpus_of_run, trained_as


def run_campaign(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """All stages in order. Raises InputError under torchrun, where each rank would build the corpus."""
    if "RANK" in os.environ:
        raise InputError("`tenfold run` is one process: under torchrun use `tenfold data` first, then `tenfold train`")
    with open_workspace(directory, overrides, alone=True) as opened:
        workspace = on_corpus_of_run(opened)
        prepare_data(workspace, keep_trained=True)
        stages.refuse_other_run(workspace)
        if tell_repetition(workspace).is_excessive and workspace.campaign.ladder.sizes:
            workspace.console.warn("no ladder and no forecast: no small run says where so much repetition ends")
        else:
            predict_before_training(workspace)
        with joined_ranks(workspace.campaign.train.device) as ranks:
            result = stages.train(workspace, ranks)
        evaluation = _scored_and_settled(workspace)
        report = write_report(workspace)
    return asdict(result) | _bits_per_byte(evaluation) | report


def _scored_and_settled(workspace: Workspace) -> dict[str, Any]:
    """The scores on the holdouts; what was forecast is written beside what came."""
    evaluation = evaluate_trained(workspace)
    settle_forecast(workspace, evaluation)
    settle_plan(workspace)
    return evaluation


def _bits_per_byte(evaluation: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}_bits_per_byte": scores["bits_per_byte"] for name, scores in evaluation["holdouts"].items()}


def run_data(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Build the corpus where its inputs changed, and prove its isolation."""
    with open_workspace(directory, overrides, alone=True) as workspace:
        manifest = prepare_data(workspace)
    return {
        "corpus": str(workspace.files.data),
        "documents": manifest.funnel["documents_kept"],
        "pieces": sum(source.documents for source in manifest.sources),
        "bytes": sum(source.bytes for source in manifest.sources),
        "tokens": manifest.tokens,
        "manifest": manifest.digest,
        "contents": manifest.to_dict(),
    }


def run_audit(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Re-check the isolation of the corpus."""
    with open_workspace(directory, overrides) as workspace:
        return dict(audit_data(workspace))


def run_show(directory: Path, samples: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The text of samples of the training order, as `N` or `N-M`, and where it comes from."""
    numbers = _sample_numbers(samples)
    with open_workspace(directory, overrides) as opened:
        workspace = as_trained(on_corpus_of_run(opened))
        return {"samples": show_samples(workspace, numbers)}


MOST_SHOWN = 256


def _sample_numbers(samples: str) -> range:
    """`640` or `640-703`, as a message of a run names them."""
    found = re.fullmatch(r"(\d{1,18})(?:[-–](\d{1,18}))?", samples.strip())
    if found is None:
        raise InputError(f"{samples!r}: give a sample's number, or two as in 640-703")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last < first + MOST_SHOWN:
        raise InputError(f"{samples!r}: give the smaller number first, and at most {MOST_SHOWN} samples at once")
    return range(first, last + 1)


def run_ladder(directory: Path, overrides: Sequence[str], *, join: bool = False) -> dict[str, Any]:
    """Train the small runs; with `join` beside others who work on them."""
    with open_workspace(directory, overrides, alone=not join) as workspace:
        ladder = join_ladder(workspace) if join else train_ladder(workspace)
        if ladder.transfer:
            workspace.console.say(f"ladder: {ladder.transfer.text}")
    return {"rungs": len(ladder.rungs), "seconds": ladder.seconds, "table": [asdict(rung) for rung in ladder.rungs]}


def run_predict(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Forecast the target from its ladder, which is trained first where it is not, and register it."""
    with open_workspace(directory, overrides, alone=True) as workspace:
        predictions = predict(workspace)
        for line in forecast_lines(predictions):
            workspace.console.say(f"predict: {line}")
    return {"digest": predictions[0].basis["digest"], "forecasts": [asdict(prediction) for prediction in predictions]}


def run_derisk(
    change: Path, directory: Path, overrides: Sequence[str], *, seeds: int, sizes: Sequence[str] | None
) -> dict[str, Any]:
    """Find out on the ladder what a change is worth."""
    with open_workspace(directory, overrides, alone=True) as workspace:
        return derisk(change, workspace, seeds=seeds, sizes=sizes)


def run_worker(plan: Path) -> None:
    """Body of a worker process of the ladder."""
    work_for_parent(plan)


def run_train(directory: Path, overrides: Sequence[str]) -> dict[str, Any] | None:
    """Train; None on every rank but the first."""
    first = os.environ.get("RANK", "0") == "0"
    with (
        open_workspace(directory, overrides, alone=first, quiet=not first, hashes=first) as opened,
        joined_ranks(opened.campaign.train.device) as ranks,
    ):
        workspace = on_corpus_of_run(opened)
        tell_repetition(workspace)
        result = stages.train(workspace, ranks)
    return asdict(result) if ranks.is_first else None


def run_replay(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Execute a finished run of several learners again from its merge log; raises TenfoldError where it differs."""
    with open_workspace(directory, overrides) as opened:
        workspace = as_trained(opened)
        trained = trained_as(workspace)
        replayed = replay(workspace)
        same = replayed.weights_digest == trained.result.weights_digest
        if not same:
            raise TenfoldError(f"{workspace.files.learners}: replay gives other weights than training ended with")
    return asdict(replayed) | {"same": same}


def run_evaluate(directory: Path, overrides: Sequence[str], *, best: bool = False) -> dict[str, Any]:
    """Score the trained model on the holdouts, and what was forecast about it; or the best checkpoint alone."""
    with open_workspace(directory, overrides) as opened:
        workspace = as_trained(opened)
        evaluation = evaluate_trained(workspace, best=True) if best else _scored_and_settled(workspace)
    return _bits_per_byte(evaluation) | evaluation


def run_report(directory: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Write report.html and report.json from what lies in the directory."""
    with open_workspace(directory, overrides, hashes=False) as workspace:
        return write_report(as_trained(workspace))


def run_export(
    directory: Path, destination: Path | None, overrides: Sequence[str], *, best: bool = False
) -> dict[str, Any]:
    """Write the trained model, or its best checkpoint, in Hugging Face format: into `export` unless told otherwise."""
    with open_workspace(directory, overrides) as opened:
        workspace = as_trained(opened)
        where = destination or workspace.files.export
        stages.export(workspace, where, best=best)
    return {"export": str(where)}
