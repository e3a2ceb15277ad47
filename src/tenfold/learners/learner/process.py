"""A learner's process: one rank of it, alone or under torchrun."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.core.signals import stop_on_signal
from tenfold.data import Manifest
from tenfold.learners.faults.inject import InjectedFaults, allow_faults_from_signals
from tenfold.learners.learner.joining import LearnerSite, PeerService
from tenfold.learners.learner.loop import DecoupledLearner
from tenfold.learners.settings import batch_of, fragments_of, sharing_machine
from tenfold.learners.wire import BlobServer, Security
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.learner import build_learner
from tenfold.train.plan import RunPlan
from tenfold.train.ranks import Ranks, joined_ranks

LOOPBACK = ("127.", "localhost", "[::1]")


def train_as_learner(
    campaign: Campaign, data: Path, manifest: Manifest, name: str, syncer: str, security: Security, states: Path
) -> None:
    """Join a run and train until it is finished. `syncer`: its address, or those of all its shards with commas between.

    Raises Interrupted when asked to stop, Refused when kept out.
    """
    with joined_ranks(campaign.train.device) as alone, stop_on_signal() as stop:
        ranks = sharing_machine(campaign, alone)
        learner = build_learner(campaign, data, manifest, ranks)
        batch = batch_of(campaign)
        _check_shares(batch, learner.plan, ranks)
        faults, peers = InjectedFaults(), PeerService()
        allow_faults_from_signals(faults)
        with (
            Checkpointer(states / name, keep_last=2, rank=ranks.rank, world_size=ranks.world_size) as checkpointer,
            _peer_server(peers, syncer, security, ranks) as address,
        ):
            checkpointer.prepare()
            first, *shards = syncer.split(",")
            site = LearnerSite(name, first, security, address, states, tuple(shards))
            fragments = fragments_of(campaign, learner.model)
            DecoupledLearner(learner, site, fragments, batch, checkpointer, peers, stop, faults).run()


def _check_shares(batch: int, plan: RunPlan, ranks: Ranks) -> None:
    """Every step is shared out equally, the last one of the run too, which takes what is left. Raises InputError."""
    ranks.share(batch)
    left = plan.steps * plan.sequences % batch
    if left % ranks.world_size:
        raise InputError(
            f"the last step of the run has {left} sequences, which {ranks.world_size} ranks cannot share equally; "
            "set learners.batch_tokens or train.tokens so that it can be"
        )


@contextmanager
def _peer_server(peers: PeerService, syncer: str, security: Security, ranks: Ranks) -> Iterator[str | None]:
    """Where other learners may take the inner state: beside a syncer on loopback, or with a certificate of our own.

    Of several ranks none has the whole of it: there it is taken from their checkpoint.
    """
    if ranks.world_size > 1 or not (syncer.startswith(LOOPBACK) or security.key):
        yield None
        return
    bind = "127.0.0.1" if syncer.startswith(LOOPBACK) else "0.0.0.0"
    server = BlobServer(peers, security, bind=bind)
    try:
        yield server.address
    finally:
        server.close()
