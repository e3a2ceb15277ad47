"""What training leaves in the campaign's folder, and proof that what is loaded is what was trained."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, InputError, RunConsole, read_json, without_secrets, write_json
from tenfold.data import Workspace
from tenfold.ledger import Ledger
from tenfold.model import Transformer
from tenfold.train.checkpoint import Checkpoint, Checkpointer, weights_digest
from tenfold.train.identity import RunIdentity, check_same_recipe, identify, is_same_recipe
from tenfold.train.loop import TrainResult
from tenfold.train.plan import plan_run
from tenfold.train.ranks import Ranks


def checkpointer_of(workspace: Workspace, ranks: Ranks) -> Checkpointer:
    """The checkpoint store of a campaign; a relative path is one below the campaign's directory."""
    settings = workspace.campaign.checkpoint
    url = settings.url or "checkpoints"
    return Checkpointer(
        url if "://" in url else workspace.files.directory / url,
        keep_last=settings.keep_last,
        keep_every=settings.keep_every,
        storage_options={"endpoint_url": settings.endpoint_url} if settings.endpoint_url else {},
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


@dataclass(frozen=True)
class Best:
    """The checkpoint that was kept for its score on a holdout, as measured on `evaluate.during_bytes` of it."""

    holdout: str
    step: int
    bits_per_byte: float


@dataclass(frozen=True)
class Trained:
    """A finished run and its identity at the time."""

    result: TrainResult
    identity: Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    """The `--set` options it was trained with, but for secret ones; none are known of a run that an older tenfold
    finished."""
    secret: tuple[str, ...] = ()
    """Those that hold a secret, such as the password in a checkpoint.url, without it: it is kept nowhere."""
    best: Best | None = None
    """Where `checkpoint.keep_best` was set."""


def start_run(ledger: Ledger, campaign: Campaign, identity: RunIdentity) -> int:
    """The run's number in the ledger, the same every time."""
    return ledger.start_run("train", identity.fingerprint, identity.describe(campaign.name))


def record_training(workspace: Workspace, result: TrainResult, identity: RunIdentity, best: Best | None = None) -> None:
    """Write train.json."""
    public = [each for each in workspace.overrides if without_secrets(each) == each]
    record = {**asdict(result), "identity": asdict(identity), "overrides": public}
    if secret := [without_secrets(each) for each in workspace.overrides if each not in public]:
        record["secret_overrides"] = secret
    write_json(workspace.files.train_result, record | ({"best": asdict(best)} if best else {}))


def read_training(files: CampaignFiles) -> Trained | None:
    """What training ended with; None when it has not, or when train.json is not whole."""
    recorded = read_json(files.train_result) or {}
    try:
        result = TrainResult(**{f.name: recorded[f.name] for f in fields(TrainResult)})
        best = Best(**recorded["best"]) if "best" in recorded else None
        overrides, secret = (tuple(recorded.get(key, ())) for key in ("overrides", "secret_overrides"))
        return Trained(result, recorded["identity"], overrides, secret, best)
    except (KeyError, TypeError):
        return None


def trained_as(workspace: Workspace) -> Trained:
    """The finished training of exactly this configuration and corpus.

    Raises InputError when there is none, or when it was trained with another one, naming the keys that differ.
    """
    files, identity = workspace.files, _identity(workspace)
    trained = read_training(files)
    if trained is None:
        raise InputError(f"{files.directory}: no finished training here; run `tenfold train {files.directory}`")
    check_same_recipe(trained.identity, identity, str(files.train_result))
    return trained


def finished_training(workspace: Workspace, checkpointer: Checkpointer) -> TrainResult | None:
    """What training ended with, if this recipe has been trained to the end and its last checkpoint is whole."""
    trained = read_training(workspace.files)
    if trained is None or not is_same_recipe(trained.identity, _identity(workspace)):
        return None
    return trained.result if final_checkpoint(checkpointer, trained, workspace.console) else None


def _identity(workspace: Workspace) -> RunIdentity:
    """Of the run that the workspace's configuration and corpus make; numerics are left out."""
    return identify(workspace.campaign, workspace.manifest.digest, {})


def final_checkpoint(checkpointer: Checkpointer, trained: Trained, console: RunConsole) -> Checkpoint | None:
    """The checkpoint that training ended with, if it is still there and whole; says which are damaged."""
    found = checkpointer.latest()
    for damaged in found.damaged:
        console.warn(f"{damaged.path}: {damaged.reason}; skipped")
    if found.checkpoint is None or found.checkpoint.step != trained.result.steps:
        return None
    return found.checkpoint


def load_trained(workspace: Workspace, trained: Trained, device: torch.device, *, best: bool = False) -> Transformer:
    """The trained model, or its `best` checkpoint.

    Raises InputError when that is gone, damaged, or holds other weights, and when no best one was kept.
    """
    campaign, vocabulary, alone = workspace.campaign, workspace.manifest.vocab_size, Ranks(0, 1, device)
    model = Transformer(campaign.model, vocabulary, plan_run(campaign, vocabulary, alone).compute_dtype).to(device)
    weights = {f"model/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    with checkpointer_of(workspace, alone) as checkpointer:
        found = _best_checkpoint(workspace, checkpointer, trained) if best else None
        found = found or final_checkpoint(checkpointer, trained, workspace.console)
        if found is None:
            raise InputError(
                f"{checkpointer.url}: the checkpoint of the last step, {trained.result.steps}, is missing or damaged; "
                "`tenfold train` makes it again"
            )
        checkpointer.load(found, weights)
    if not best and weights_digest(weights) != trained.result.weights_digest:
        raise InputError(f"{found.path}: not the weights that training ended with; `tenfold train` makes them again")
    return model


def _best_checkpoint(workspace: Workspace, checkpointer: Checkpointer, trained: Trained) -> Checkpoint:
    """The checkpoint that was kept for its score. Raises InputError when there is none, or it is of another run."""
    if trained.best is None:
        raise InputError(f"{workspace.files.train_result}: no best checkpoint was kept; set checkpoint.keep_best first")
    found = checkpointer.at(trained.best.step)
    if found is None:
        raise InputError(f"{checkpointer.url}: the best checkpoint, step {trained.best.step}, is missing or damaged")
    check_same_recipe(found.meta["identity"], _identity(workspace), found.path)
    return found
