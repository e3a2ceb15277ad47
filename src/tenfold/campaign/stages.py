"""The stages of a campaign, in order. Each reads what lies in the directory, and is skipped when nothing changed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tenfold.config import Campaign
from tenfold.core.console import RunConsole, run_console
from tenfold.core.errors import TenfoldError
from tenfold.core.files import read_json, write_json
from tenfold.core.folder import CampaignFiles
from tenfold.core.progress import ProgressLines
from tenfold.data import Manifest, asked_for, audit, build_corpus, load_holdout
from tenfold.data.verified import audit_passed, verified_manifest
from tenfold.evaluate import (
    compressed_bits_per_byte,
    scoring_code_version,
)
from tenfold.evaluate.holdouts import HoldoutScores, holdout_scorer, score
from tenfold.experiments.forecast.watch import ForecastWatcher, open_watcher
from tenfold.learners.run import train_with_learners
from tenfold.ledger import Ledger
from tenfold.model import Transformer, save_huggingface
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.console import ConsoleLines, Throughput
from tenfold.train.finished import (
    checkpointer_of,
    final_checkpoint,
    load_trained,
    read_training,
    record_training,
    trained_as,
)
from tenfold.train.identity import identify, is_same_recipe
from tenfold.train.journal import Journal, journal_of
from tenfold.train.learner import Learner, build_learner, make_deterministic
from tenfold.train.loop import Loop, TrainResult
from tenfold.train.observe import Observer
from tenfold.train.plan import plan_run
from tenfold.train.ranks import Ranks, choose_device


def prepare_data(
    campaign: Campaign, files: CampaignFiles, console: RunConsole, *, keep_trained: bool = False
) -> Manifest:
    """Build the corpus if its inputs changed, and prove its isolation.

    With `keep_trained`, a corpus of the same [data] and seed that a run was trained on stays even if files it was
    built from changed since: replacing it would leave that run without its corpus.
    """
    manifest = _trained_corpus(campaign, files) if keep_trained else None
    if manifest is None:
        progress = ProgressLines(console)
        manifest = build_corpus(campaign.data, campaign.seed, files.data, files.directory, progress)
    if not audit_passed(files, manifest):
        audit_data(files, console)
    return manifest


def _trained_corpus(campaign: Campaign, files: CampaignFiles) -> Manifest | None:
    """The corpus that lies here, if it is what was asked for and the ledger knows a run on it."""
    if not ((files.data / "manifest.json").exists() and files.ledger.exists()):
        return None
    manifest = Manifest.load(files.data)
    if manifest.asked_for != asked_for(campaign.data, campaign.seed):
        return None
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        trained_on = {run.description["manifest"] for run in ledger.runs()}
    return manifest if manifest.digest in trained_on else None


def audit_data(files: CampaignFiles, console: RunConsole) -> Mapping[str, Any]:
    """Check the corpus again from its shards alone. Raises TenfoldError naming the check that failed."""
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


def train(campaign: Campaign, files: CampaignFiles, ranks: Ranks, overrides: Sequence[str] = ()) -> TrainResult:
    """Train the target, going on from where it stopped. Does nothing when it is done already.

    With [learners] it is trained by several processes, which read campaign.toml and `overrides` themselves.
    """
    manifest = verified_manifest(campaign, files, hashes=ranks.is_first)
    with run_console(enabled=ranks.is_first) as console, checkpointer_of(campaign, files, ranks) as checkpointer:
        finished = finished_training(campaign, files, manifest, checkpointer, console)
        if finished is not None:
            return finished
        if campaign.learners.count and ranks.world_size == 1:
            return _train_with_learners(campaign, files, manifest, checkpointer, console, tuple(overrides))
        learner = build_learner(campaign, files.data, manifest, ranks)
        scorer = holdout_scorer(campaign, files, manifest)
        with journal_of(learner, files) as journal:
            throughput = Throughput(learner, journal)
            band = forecast_watcher(learner, files, journal) if ranks.is_first else None
            observers: list[Observer] = [throughput, journal, *([band] if band else [])]
            observers += [ConsoleLines(console, learner, throughput, beside=lambda: str(band or ""))]
            observers += [HoldoutScores(learner, scorer, journal, throughput, console)]
            result = Loop(learner, checkpointer, observers).run()
    if ranks.is_first:
        record_training(files, result, learner.identity)
    return result


def _train_with_learners(
    campaign: Campaign,
    files: CampaignFiles,
    manifest: Manifest,
    checkpointer: Checkpointer,
    console: RunConsole,
    overrides: tuple[str, ...],
) -> TrainResult:
    checkpointer.prepare()
    scorer = holdout_scorer(campaign, files, manifest)
    result, identity = train_with_learners(campaign, files, manifest, checkpointer, console, scorer, overrides)
    record_training(files, result, identity)
    return result


def forecast_watcher(learner: Learner, files: CampaignFiles, journal: Journal) -> ForecastWatcher | None:
    """Holds the run against its forecast, if one is registered."""
    return open_watcher(files, learner.identity, learner.plan, learner.train.log_every, journal.recorded)


def finished_training(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, checkpointer: Checkpointer, console: RunConsole
) -> TrainResult | None:
    """What training ended with, if this recipe has been trained to the end and its last checkpoint is whole."""
    trained = read_training(files)
    if trained is None or not is_same_recipe(trained.identity, identify(campaign, manifest.digest, {})):
        return None
    return trained.result if final_checkpoint(checkpointer, trained, console) else None


def evaluate(campaign: Campaign, files: CampaignFiles, console: RunConsole) -> dict[str, Any]:
    """Score the trained model on the whole of every holdout, beside general-purpose compressors."""
    manifest = verified_manifest(campaign, files)
    trained = trained_as(campaign, manifest, files)
    made_from = _digest(
        [trained.result.weights_digest, manifest.digest, campaign.evaluate.stride, scoring_code_version()]
    )
    evaluation = read_json(files.evaluation) or {}
    if evaluation.get("made_from") != made_from:
        device = choose_device(campaign.train.device)
        make_deterministic(plan_run(campaign, manifest.vocab_size, Ranks(0, 1, device)).threads)
        with checkpointer_of(campaign, files, Ranks(0, 1, device)) as checkpointer:
            model = load_trained(campaign, manifest, trained, checkpointer, device, console)
        holdouts = {h.name: _evaluate_one(model, campaign, files, manifest, h.name, device) for h in manifest.holdouts}
        evaluation = {
            "made_from": made_from,
            "weights_digest": trained.result.weights_digest,
            "manifest": manifest.digest,
            "holdouts": holdouts,
        }
        write_json(files.evaluation, evaluation)
    for name, scores in evaluation["holdouts"].items():
        peers = "  ".join(f"{peer} {scores[f'{peer}_bits_per_byte']:.3f}" for peer in ("gzip", "zstd", "xz"))
        console.say(f"evaluate: {name}: {scores['bits_per_byte']:.3f} bits per byte  ({peers})")
    return evaluation


def _evaluate_one(
    model: Transformer, campaign: Campaign, files: CampaignFiles, manifest: Manifest, name: str, device: torch.device
) -> dict[str, Any]:
    documents = load_holdout(files.data, manifest, name)
    peers = compressed_bits_per_byte(b"".join(document.text for document in documents))
    return {
        **asdict(score(model, campaign, manifest, documents, device)),
        "documents": len(documents),
        **{f"{peer}_bits_per_byte": value for peer, value in peers.items()},
    }


def export(campaign: Campaign, files: CampaignFiles, destination: Path, console: RunConsole) -> None:
    """Write the trained model in Hugging Face format."""
    manifest = verified_manifest(campaign, files)
    trained, cpu = trained_as(campaign, manifest, files), torch.device("cpu")
    with checkpointer_of(campaign, files, Ranks(0, 1, cpu)) as checkpointer:
        model = load_trained(campaign, manifest, trained, checkpointer, cpu, console)
    tokenizer = (files.data / manifest.tokenizer_file).read_text(encoding="utf-8")
    save_huggingface(model, tokenizer, manifest.end_of_document, destination)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
