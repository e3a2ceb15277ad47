"""The processes of a run: whose state they go on with, what each does from start to end, where each says it listens."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tenfold.config import SYNCER, Campaign, with_new_names
from tenfold.core import CampaignFiles, InputError, TenfoldError, read_json, stop_on_signal, watch_parent, write_json
from tenfold.data import Manifest, Workspace
from tenfold.learners.launch.commands import check_name
from tenfold.learners.learner.loop import train_as_learner
from tenfold.learners.settings import server_security, sharing_machine
from tenfold.learners.syncer.service import SyncerSite, serve, serve_shard
from tenfold.learners.wire import BlobServer, Security, reached
from tenfold.learners.wire.security import make_token, token_from
from tenfold.ledger import Ledger
from tenfold.train import (
    ELASTIC,
    Checkpoint,
    Ranks,
    RunIdentity,
    RunPlan,
    check_resumable,
    check_same_recipe,
    choose_device,
    identify,
    numerics_of,
    plan_run,
    start_run,
)


def plan_with_learners(campaign: Campaign, manifest: Manifest) -> tuple[RunPlan, RunIdentity]:
    """Batches and steps of the whole run, and its identity on this machine."""
    ranks = sharing_machine(campaign, Ranks(0, 1, choose_device(campaign.train.device)))
    plan = plan_run(campaign, manifest.vocab_size, ranks)
    return plan, identify(campaign, manifest.digest, numerics_of(plan, ranks))


def open_ledger_of(campaign: Campaign, files: CampaignFiles, identity: RunIdentity) -> tuple[Ledger, int]:
    """The campaign's ledger and the number of its run, for a thread of its own."""
    ledger = Ledger(files.ledger)
    return ledger, start_run(ledger, campaign, identity)


@dataclass
class Claim:
    """One attempt of a run on the learners' folder of its campaign."""

    files: CampaignFiles
    identity: RunIdentity
    earlier: str | None
    """Fingerprint of the attempt before, where it is another: the number of learners or the code has changed."""
    seconds_before: float
    _began: float = field(default_factory=time.monotonic)
    _is_unsaved: bool = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far; pauses between attempts do not count."""
        return self.seconds_before + time.monotonic() - self._began

    def save(self) -> None:
        """Keep identity and seconds."""
        saved = {"identity": asdict(self.identity), "fingerprint": self.identity.fingerprint, "seconds": self.seconds}
        write_json(self.files.learners_identity, saved)

    def save_if_possible(self, warn: Callable[[str], None]) -> None:
        """As `save`; a disk that refuses costs nothing but the seconds since it last did not."""
        try:
            self.save()
        except TenfoldError as error:
            if not self._is_unsaved:
                warn(f"{error}; syncer and learners go on")
            self._is_unsaved = True
        else:
            self._is_unsaved = False

    def take_over_metrics(self, ledger: Ledger, run_id: int, steps: int) -> None:
        """Let the ledger show one run where the attempt before had another fingerprint."""
        if self.earlier is not None:
            ledger.inherit_metrics(run_id, self.earlier, steps)


def claim_learners(files: CampaignFiles, identity: RunIdentity, warn: Callable[[str], None]) -> Claim:
    """The right to go on with what lies in the learners' folder, or to begin there.

    Raises InputError when it was trained with another configuration or on other data. The number and size of learners
    may change.
    """
    saved = read_json(files.learners_identity)
    if saved is None:
        return Claim(files, identity, None, 0.0)
    for warning in check_resumable(_with_learners_of(identity, saved["identity"]), identity, str(files.learners)):
        warn(f"{warning}; the run goes on, but `--replay` will not give its bits again")
    earlier = saved["fingerprint"] if saved["fingerprint"] != identity.fingerprint else None
    return Claim(files, identity, earlier, float(saved["seconds"]))


def check_same_run(checkpoint: Checkpoint, identity: RunIdentity) -> None:
    """Raises InputError when the campaign's last checkpoint is of another configuration, data, or of no learners."""
    saved = checkpoint.meta["identity"]
    if with_new_names(saved["config"]).get("learners", {}).get("count"):
        saved = _with_learners_of(identity, saved)
    check_same_recipe(saved, identity, checkpoint.path)


def _with_learners_of(identity: RunIdentity, saved: Mapping[str, Any]) -> dict[str, Any]:
    elastic = {key: identity.config["learners"][key] for key in ELASTIC}
    config = with_new_names(saved["config"])
    return {**saved, "config": {**config, "learners": {**config["learners"], **elastic}}}


def address_file(folder: Path, shard: int = 0) -> Path:
    """Where a process of the syncer writes about itself."""
    return folder / (f"{SYNCER}-{shard}.json" if shard else f"{SYNCER}.json")


def read_address(path: Path) -> dict[str, Any] | None:
    """What a syncer wrote about itself: address, port, bulk_port, pid, finished."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def serve_as_syncer(workspace: Workspace, shard: int, port: int, bulk_port: int, *, child: bool) -> bool:
    """Body of the syncer's process, or that of a further shard; True when the run is finished."""
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    if shard >= campaign.learners.syncer_shards:
        raise InputError(f"--shard {shard}: learners.syncer_shards = {campaign.learners.syncer_shards}, counted from 0")
    if child:
        watch_parent()
    plan, identity = plan_with_learners(campaign, manifest)
    files.learners.mkdir(parents=True, exist_ok=True)
    if not child and shard == 0:
        claim_learners(files, identity, workspace.console.warn).save()
    token, path = make_token(files.learners / "token"), address_file(files.learners, shard)

    def ready(server: BlobServer) -> None:
        write_json(path, _address_of(server, finished=False))
        last.append(_address_of(server, finished=True))
        print(f"syncer listens on {server.address}", flush=True)

    last: list[dict[str, Any]] = []
    with stop_on_signal() as stop:
        where = SyncerSite(files.learners, server_security(campaign, token), campaign.learners.bind, port, bulk_port)
        open_ledger = partial(open_ledger_of, campaign, files, identity)
        vocabulary = manifest.vocab_size
        if shard == 0:
            finished = serve(campaign, plan, vocabulary, identity, where, open_ledger, stop, ready)
        else:
            find = partial(_syncer_address, files)
            finished = serve_shard(campaign, shard, vocabulary, identity, where, find, open_ledger, stop, ready)
    if finished:
        write_json(path, last[0])
    return finished


def _syncer_address(files: CampaignFiles) -> str | None:
    found = read_address(address_file(files.learners))
    return str(found["address"]) if found else None


def _address_of(server: BlobServer, *, finished: bool) -> dict[str, Any]:
    return {
        "address": reached(server.address, "127.0.0.1"),
        "port": server.control_port,
        "bulk_port": server.bulk_port,
        "pid": os.getpid(),
        "finished": finished,
    }


def learn(
    workspace: Workspace,
    name: str,
    syncer: str | None,
    token_file: Path | None,
    tls_root: Path | None,
    *,
    child: bool,
) -> None:
    """Body of a learner's process."""
    campaign, files = workspace.campaign, workspace.files
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
    train_as_learner(campaign, files.data, workspace.manifest, check_name(name), syncer, security, states)
