"""The stages of a campaign, in order. Each reads what lies in the directory, and is skipped when nothing changed."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tenfold.campaign.files import CampaignFiles, read_json, write_json, write_text
from tenfold.campaign.progress import ProgressLines
from tenfold.campaign.report import collect, render
from tenfold.config import Campaign
from tenfold.data import HoldoutDocument, Manifest, audit, build_corpus, load_holdout
from tenfold.errors import InputError, TenfoldError
from tenfold.evaluate import Score, compressed_bits_per_byte, limit_documents, score_documents
from tenfold.ledger import Ledger
from tenfold.model import Transformer, save_huggingface
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.console import RunConsole, run_console
from tenfold.train.identity import identify
from tenfold.train.journal import Journal
from tenfold.train.learner import Learner, build_learner, make_deterministic, numerics_of
from tenfold.train.loop import Loop, TrainResult
from tenfold.train.plan import plan_run
from tenfold.train.ranks import Ranks, choose_device

EVALUATION_BATCH = 32


def prepare_data(campaign: Campaign, files: CampaignFiles, console: RunConsole) -> Manifest:
    """Build the corpus if its inputs changed, and prove its isolation."""
    progress = ProgressLines(console)
    manifest = build_corpus(campaign.data, campaign.seed, files.data, files.directory, progress)
    recorded = read_json(files.audit)
    if recorded is None or recorded["manifest"] != manifest.digest or not recorded["ok"]:
        audit_data(files, console)
    return manifest


def audit_data(files: CampaignFiles, console: RunConsole) -> Mapping[str, Any]:
    """Check the corpus again from its shards alone. Raises TenfoldError naming the check that failed."""
    manifest = Manifest.load(files.data)
    report = audit(files.data)
    for check in report.checks:
        console.say(f"audit: {check.name}: {check.checked} {'passed' if check.passed else 'FAILED'}  {check.detail}")
    record = {"manifest": manifest.digest, **asdict(report), "ok": report.ok}
    write_json(files.audit, record)
    if not report.ok:
        failed = next(check for check in report.checks if not check.passed)
        raise TenfoldError(f"{files.data}: audit failed: {failed.name}: {failed.detail}")
    return record


def verified_manifest(files: CampaignFiles) -> Manifest:
    """The manifest, after its files' hashes and its audit have been checked. Raises InputError otherwise."""
    manifest = Manifest.load(files.data)
    manifest.verify(files.data)
    recorded = read_json(files.audit)
    if recorded is None or recorded["manifest"] != manifest.digest or not recorded["ok"]:
        raise InputError(f"{files.data}: no passed audit for this corpus; run `tenfold data {files.directory}`")
    return manifest


def checkpointer_of(campaign: Campaign, files: CampaignFiles, ranks: Ranks) -> Checkpointer:
    """The checkpoint store of a campaign."""
    settings = campaign.checkpoint
    return Checkpointer(
        settings.url or files.checkpoints,
        keep_last=settings.keep_last,
        keep_every=settings.keep_every,
        storage_options={"endpoint_url": settings.endpoint_url} if settings.endpoint_url else {},
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


def train(campaign: Campaign, files: CampaignFiles, ranks: Ranks) -> TrainResult:
    """Train the target, going on from the newest whole checkpoint."""
    manifest = verified_manifest(files)
    finished = finished_training(campaign, files, manifest, ranks)
    if finished is not None:
        return finished
    learner = build_learner(campaign, files.data, manifest, ranks)
    ledger = Ledger(files.ledger) if ranks.is_first else None
    journal = Journal(ledger, learner.identity.fingerprint, {"name": campaign.name, **asdict(learner.identity)})
    documents = {
        h.name: limit_documents(load_holdout(files.data, manifest, h.name), campaign.evaluate.during_bytes)
        for h in campaign.data.holdouts
    }
    scorer = partial(score_holdouts, campaign=campaign, manifest=manifest, documents=documents)
    with run_console(enabled=ranks.is_first) as console, checkpointer_of(campaign, files, ranks) as checkpointer:
        result = Loop(learner, checkpointer, journal, console, scorer).run()
    if ranks.is_first:
        write_json(files.train_result, asdict(result))
    return result


def finished_training(campaign: Campaign, files: CampaignFiles, manifest: Manifest, ranks: Ranks) -> TrainResult | None:
    """What training ended with, if exactly this run has been done already."""
    recorded = read_json(files.train_result)
    plan = plan_run(campaign, manifest.vocab_size, ranks)
    identity = identify(campaign, manifest.digest, numerics_of(plan, ranks))
    if recorded is None or recorded["fingerprint"] != identity.fingerprint:
        return None
    return TrainResult(**recorded)


def score_holdouts(
    learner: Learner, campaign: Campaign, manifest: Manifest, documents: Mapping[str, list[HoldoutDocument]]
) -> dict[str, float]:
    """Bits per byte of the model as it is, on each holdout."""
    return {
        name: score(learner.model, campaign, manifest, held_out, learner.ranks.device).bits_per_byte
        for name, held_out in documents.items()
    }


def score(
    model: Transformer, campaign: Campaign, manifest: Manifest, documents: list[HoldoutDocument], device: torch.device
) -> Score:
    """Exact score of one holdout: every byte counted once. Eager: windows of many lengths would each compile anew."""
    context = campaign.model.context
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return score_documents(
            model.token_nats,
            [(document.tokens, len(document.text)) for document in documents],
            manifest.end_of_document,
            context,
            campaign.evaluate.stride or context // 2,
            EVALUATION_BATCH,
            device,
        )


def evaluate(campaign: Campaign, files: CampaignFiles, console: RunConsole) -> dict[str, Any]:
    """Score the trained model on the whole of every holdout, beside general-purpose compressors."""
    manifest = verified_manifest(files)
    trained = read_json(files.train_result)
    if trained is None:
        raise InputError(f"{files.directory}: no finished training here; run `tenfold train {files.directory}`")
    made_from = _digest([trained["weights_digest"], manifest.digest, campaign.evaluate.model_dump(mode="json")])
    recorded = read_json(files.evaluation)
    if recorded is not None and recorded["made_from"] == made_from:
        return recorded
    device = choose_device(campaign.train.device)
    model = load_trained(campaign, files, manifest, device)
    holdouts = {}
    for holdout in campaign.data.holdouts:
        documents = load_holdout(files.data, manifest, holdout.name)
        result = score(model, campaign, manifest, documents, device)
        peers = compressed_bits_per_byte(b"".join(document.text for document in documents))
        holdouts[holdout.name] = {
            **asdict(result),
            "documents": len(documents),
            **{f"{peer}_bits_per_byte": value for peer, value in peers.items()},
        }
        shown = "  ".join(f"{peer} {value:.3f}" for peer, value in peers.items())
        console.say(f"evaluate: {holdout.name}: {result.bits_per_byte:.3f} bits per byte  ({shown})")
    evaluation = {"made_from": made_from, "weights_digest": trained["weights_digest"], "holdouts": holdouts}
    write_json(files.evaluation, evaluation)
    return evaluation


def load_trained(campaign: Campaign, files: CampaignFiles, manifest: Manifest, device: torch.device) -> Transformer:
    """The model of the newest whole checkpoint. Raises InputError when there is none."""
    plan = plan_run(campaign, manifest.vocab_size, Ranks(0, 1, device))
    make_deterministic(plan.threads)
    model = Transformer(campaign.model, manifest.vocab_size, plan.compute_dtype).to(device)
    weights = {f"model/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    with checkpointer_of(campaign, files, Ranks(0, 1, device)) as checkpointer:
        found = checkpointer.latest().checkpoint
        if found is None:
            raise InputError(f"{checkpointer.url}: no whole checkpoint here; run `tenfold train {files.directory}`")
        checkpointer.load(found, weights)
    return model


def report(campaign: Campaign, files: CampaignFiles, console: RunConsole) -> dict[str, Any]:
    """Write report.json and report.html from what the other stages left. Returns where they are."""
    manifest = Manifest.load(files.data)
    trained, evaluation, audited = read_json(files.train_result), read_json(files.evaluation), read_json(files.audit)
    if trained is None or evaluation is None or audited is None:
        raise InputError(f"{files.directory}: nothing finished to report; run `tenfold run {files.directory}`")
    plan = plan_run(campaign, manifest.vocab_size, Ranks(0, 1, choose_device(campaign.train.device)))
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        collected = collect(campaign, manifest, plan, trained, evaluation, audited, ledger)
    write_json(files.report_json, collected)
    write_text(files.report_html, render(collected))
    console.say(f"report: {files.report_html}")
    return {"report": str(files.report_html)}


def export(campaign: Campaign, files: CampaignFiles, destination: Path) -> None:
    """Write the trained model in Hugging Face format."""
    manifest = Manifest.load(files.data)
    model = load_trained(campaign, files, manifest, torch.device("cpu"))
    tokenizer = (files.data / manifest.tokenizer_file).read_text(encoding="utf-8")
    save_huggingface(model, tokenizer, manifest.end_of_document, destination)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
