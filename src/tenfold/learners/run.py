"""Training with several learners: the target's run, supervised here, and the bodies of its processes."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tenfold.config import Campaign
from tenfold.core.console import RunConsole
from tenfold.core.errors import InputError, Interrupted, TenfoldError
from tenfold.core.files import write_json
from tenfold.core.folder import CampaignFiles
from tenfold.core.processes import watch_parent
from tenfold.core.signals import stop_on_signal
from tenfold.data import Manifest
from tenfold.evaluate.holdouts import HoldoutScorer
from tenfold.experiments.curves import ForecastWatcher, open_watcher
from tenfold.learners.claim import Claim, claim_learners
from tenfold.learners.learner.loop import train_as_learner
from tenfold.learners.local import LocalRun, Supervisor, address_file, read_address
from tenfold.learners.published import RunningScores, published_weights
from tenfold.learners.replay import Replayed, replay_folder
from tenfold.learners.settings import batch_of, server_security, sharing_machine
from tenfold.learners.slurm import check_slurm
from tenfold.learners.supervise import check_name
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.service import SyncerSite, serve, serve_shard
from tenfold.learners.wire import BlobServer, Security, check_security
from tenfold.learners.wire.security import make_token, token_from
from tenfold.ledger import Ledger
from tenfold.model import Transformer, choose_compute_dtype
from tenfold.train.checkpoint import Checkpointer, CheckpointState, weights_digest
from tenfold.train.finished import start_run
from tenfold.train.identity import RunIdentity, identify
from tenfold.train.learner import build_learner, numerics_of
from tenfold.train.loop import TrainResult
from tenfold.train.plan import RunPlan, plan_run
from tenfold.train.ranks import Ranks, choose_device


def train_with_learners(
    campaign: Campaign,
    files: CampaignFiles,
    manifest: Manifest,
    checkpointer: Checkpointer,
    console: RunConsole,
    scorer: HoldoutScorer,
    overrides: tuple[str, ...],
) -> tuple[TrainResult, RunIdentity]:
    """Train until all samples are; what the syncer ends with becomes the campaign's last checkpoint."""
    batch_of(campaign)  # refuses what cannot be shared out, before anything starts
    if campaign.learners.launch == "slurm":
        check_slurm()
    plan, identity = _plan(campaign, manifest)
    files.learners.mkdir(parents=True, exist_ok=True)
    check_security(campaign.learners.bind, server_security(campaign, make_token(files.learners / "token")))
    for shard in range(campaign.learners.syncer_shards):
        address_file(files.learners, shard).unlink(missing_ok=True)
    claim = claim_learners(files, identity, console.say)
    claim.save()
    console.say(_headline(campaign, plan))
    with (
        _recorded(campaign, files, claim, plan.steps),
        closing(Recorder(lambda: _ledger_of(campaign, files, identity), lambda _: None)) as recorder,
    ):
        recorder.say("started", _headline(campaign, plan))
        watcher = open_watcher(files, identity, plan, campaign.train.log_every)
        run = _local_run(campaign, files, plan, overrides)
        score = partial(_score_published, campaign, manifest, files, scorer, plan)
        running = RunningScores(plan.evaluate_every, score, partial(_note_scores, recorder, console), console.say)
        with closing(running) as scores:
            Supervisor(run, console, recorder, _loss_follower(watcher, recorder, claim, scores, plan.steps)).train()
            result = _keep(campaign, manifest, files, checkpointer, claim, plan)
        scores.score(plan.steps)
    return result, identity


def _keep(
    campaign: Campaign,
    manifest: Manifest,
    files: CampaignFiles,
    checkpointer: Checkpointer,
    claim: Claim,
    plan: RunPlan,
) -> TrainResult:
    """What the syncer ended with becomes a checkpoint."""
    weights, identity, seconds = published_weights(campaign, manifest, files), claim.identity, claim.seconds
    meta = {"identity": asdict(identity), "fingerprint": identity.fingerprint, "seconds": seconds}
    checkpointer.save(CheckpointState(weights, plan.steps, plan.steps * plan.sequences, meta))
    checkpointer.wait()
    return TrainResult(
        steps=plan.steps,
        tokens=plan.steps * plan.tokens_per_step,
        parameters=plan.parameters,
        weights_digest=weights_digest(weights),
        fingerprint=identity.fingerprint,
        seconds=seconds,
    )


def _local_run(campaign: Campaign, files: CampaignFiles, plan: RunPlan, overrides: tuple[str, ...]) -> LocalRun:
    return LocalRun(
        campaign=campaign,
        directory=files.directory,
        overrides=overrides,
        token=make_token(files.learners / "token"),
        sequences=plan.sequences,
        steps=plan.steps,
        tokens_per_sample=plan.context,
    )


@contextmanager
def _recorded(campaign: Campaign, files: CampaignFiles, claim: Claim, steps: int) -> Iterator[None]:
    """The run in the ledger: begun now, and closed as done, interrupted or failed."""
    with closing(Ledger(files.ledger)) as ledger:
        claim.take_over_metrics(ledger, start_run(ledger, campaign, claim.identity), steps)
    status = "failed"
    try:
        yield
        status = "done"
    except Interrupted:
        status = "interrupted"
        raise
    finally:
        claim.save()
        with closing(Ledger(files.ledger)) as ledger:
            ledger.finish_run(start_run(ledger, campaign, claim.identity), status)


def _score_published(
    campaign: Campaign, manifest: Manifest, files: CampaignFiles, scorer: HoldoutScorer, plan: RunPlan
) -> Mapping[str, float]:
    torch.set_num_threads(plan.threads)  # as few as a learner has, beside which it runs
    device = choose_device(campaign.train.device)
    model = Transformer(campaign.model, manifest.vocab_size, choose_compute_dtype(device, campaign.train.precision))
    published = published_weights(campaign, manifest, files)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(published[f"model/{name}"])
    return scorer(model.to(device), device)


def _note_scores(recorder: Recorder, console: RunConsole, step: int, scores: Mapping[str, float]) -> None:
    for name, bits_per_byte in scores.items():
        recorder.metric(step, f"holdout/{name}/bits_per_byte", bits_per_byte)
    console.say(f"step {step}  bits per byte " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def _loss_follower(
    watcher: ForecastWatcher | None, recorder: Recorder, claim: Claim, scores: RunningScores, last: int
) -> Callable[[int, float], str]:
    """At each console line: shows the forecast's band the loss at every evaluation passed, and keeps the time."""
    seen = 0

    def follow(step: int, loss: float) -> str:
        nonlocal seen
        claim.save()
        if step < last:
            scores.reached(step)
        if watcher is None:
            return ""
        while seen + watcher.group <= step:
            seen += watcher.group
            news = watcher.observe(seen, loss)
            if news:
                recorder.say("left-the-band", news)
        return f"  {watcher}"

    return follow


def _headline(campaign: Campaign, plan: RunPlan) -> str:
    learners = campaign.learners
    return (
        f"training {plan.parameters:,} parameters on {plan.steps * plan.tokens_per_step:,} tokens: "
        f"{learners.count} learners, {batch_of(campaign) * plan.context:,} tokens an inner step, "
        f"{learners.fragments} fragments sent every {learners.inner_steps} steps in {learners.precision}"
    )


def _plan(campaign: Campaign, manifest: Manifest) -> tuple[RunPlan, RunIdentity]:
    ranks = sharing_machine(campaign, Ranks(0, 1, choose_device(campaign.train.device)))
    plan = plan_run(campaign, manifest.vocab_size, ranks)
    return plan, identify(campaign, manifest.digest, numerics_of(plan, ranks))


def _ledger_of(campaign: Campaign, files: CampaignFiles, identity: RunIdentity) -> tuple[Ledger, int]:
    ledger = Ledger(files.ledger)
    return ledger, start_run(ledger, campaign, identity)


def serve_as_syncer(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, shard: int, port: int, bulk_port: int, *, child: bool
) -> bool:
    """Body of the syncer's process, or that of a further shard; True when the run is finished."""
    if shard >= campaign.learners.syncer_shards:
        raise InputError(f"--shard {shard}: learners.syncer_shards = {campaign.learners.syncer_shards}, counted from 0")
    if child:
        watch_parent()
    plan, identity = _plan(campaign, manifest)
    files.learners.mkdir(parents=True, exist_ok=True)
    if not child and shard == 0:
        claim_learners(files, identity, print).save()
    token, card = make_token(files.learners / "token"), address_file(files.learners, shard)

    def ready(server: BlobServer) -> None:
        write_json(card, _card(server, finished=False))
        cards.append(_card(server, finished=True))
        print(f"syncer listens on {server.address}", flush=True)

    cards: list[dict[str, Any]] = []
    with stop_on_signal() as stop:
        where = SyncerSite(files.learners, server_security(campaign, token), campaign.learners.bind, port, bulk_port)
        books = partial(_ledger_of, campaign, files, identity)
        vocabulary, recipe = manifest.vocab_size, identity.recipe
        if shard == 0:
            finished = serve(campaign, plan, vocabulary, recipe, where, books, stop, ready)
        else:
            find = partial(_syncer_address, files)
            finished = serve_shard(campaign, shard, vocabulary, recipe, where, find, books, stop, ready)
    if finished:
        write_json(card, cards[0])
    return finished


def _syncer_address(files: CampaignFiles) -> str | None:
    found = read_address(address_file(files.learners))
    return str(found["address"]) if found else None


def _card(server: BlobServer, *, finished: bool) -> dict[str, Any]:
    return {
        "address": server.address.replace("0.0.0.0:", "127.0.0.1:"),
        "port": server.control_port,
        "bulk_port": server.bulk_port,
        "pid": os.getpid(),
        "finished": finished,
    }


def learn(
    campaign: Campaign,
    files: CampaignFiles,
    manifest: Manifest,
    name: str,
    syncer: str | None,
    token_file: Path | None,
    tls_root: Path | None,
    *,
    child: bool,
) -> None:
    """Body of a learner's process."""
    if child:
        watch_parent()
    if syncer is None:
        syncer = _syncer_address(files)
        if syncer is None:
            raise TenfoldError(f"{files.learners}: no syncer is at work here; give --syncer HOST:PORT")
    token = token_from(token_file, files.learners / "token")
    own = server_security(campaign, token)
    security = Security(token, own.certificate, own.key, tls_root or own.root_certificate)
    states = files.learners / "learners"
    train_as_learner(campaign, files.data, manifest, check_name(name), syncer, security, states)


def replay(campaign: Campaign, files: CampaignFiles, manifest: Manifest, console: RunConsole) -> Replayed:
    """Execute the finished run again from its merge log."""
    ranks = sharing_machine(campaign, Ranks(0, 1, choose_device(campaign.train.device)))
    learner = build_learner(campaign, files.data, manifest, ranks)
    return replay_folder(learner, files.learners, console.say)
