"""The syncer's process: opens its books, serves, merges and notices deaths until the run is finished."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tenfold.cluster.coordinator.book import Fenced
from tenfold.cluster.fragments import Fragment, cut_model, spans_of_rank
from tenfold.cluster.outer import OuterOptimizer
from tenfold.cluster.syncer.handler import SyncerHandler
from tenfold.cluster.syncer.recorder import Recorder
from tenfold.cluster.syncer.service import Coordinator, RunFacts
from tenfold.cluster.syncer.shard import Shard, ShardSettings
from tenfold.cluster.syncer.shelf import Shelf
from tenfold.cluster.wire import BlobServer, Security
from tenfold.config import Campaign
from tenfold.ledger import Ledger
from tenfold.model import Transformer, initialise
from tenfold.train.plan import RunPlan
from tenfold.train.signals import StopRequest

TICK_S = 0.1
LINGER_S = 2.0  # learners hear at their next beat that the run is finished


@dataclass(frozen=True)
class Where:
    """Where a syncer keeps its state and listens."""

    folder: Path
    security: Security
    bind: str
    port: int
    bulk_port: int = 0


def serve(
    campaign: Campaign,
    plan: RunPlan,
    vocab_size: int,
    recipe: str,
    where: Where,
    open_ledger: Callable[[], tuple[Ledger, int]],
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Serve until stopped; True when the run is finished. `ready` is told when it listens.

    Raises Fenced when another syncer takes over.
    """
    recorder = Recorder(open_ledger, lambda line: print(line, flush=True))
    facts = RunFacts(
        recipe,
        plan.steps * plan.sequences,
        plan.sequences,
        campaign.cluster.strikes,
        campaign.cluster.stalled_after,
    )
    coordinator = Coordinator(where.folder, facts, recorder, os.getpid())
    shard = make_shard(campaign, vocab_size, where.folder / "shard-0", coordinator, recorder)
    coordinator.shards.append(shard)
    server = BlobServer(
        SyncerHandler(coordinator, shard, recorder),
        where.security,
        bind=where.bind,
        control_port=where.port,
        bulk_port=where.bulk_port,
    )
    try:
        ready(server)
        recorder.say("serving", "the syncer serves")
        _work(coordinator, shard, stop)
        return coordinator.finished
    finally:
        server.close()
        coordinator.close()
        shard.shelf.close()
        recorder.close()


def make_shard(
    campaign: Campaign, vocab_size: int, folder: Path, coordinator: Coordinator, recorder: Recorder
) -> Shard:
    """The shard of a campaign's model, at its newest versions or at the initial weights."""
    cluster, model = campaign.cluster, initial_model(campaign, vocab_size)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    fragments = cut_model(shapes, cluster.fragments)
    shelf = Shelf(folder)
    shelf.tidy()
    return Shard(
        shelf,
        {fragment.index: fragment for fragment in fragments},
        lambda fragment: vector_of(weights, fragment),
        lambda fragment, rank, ranks: spans_of_rank(fragment, shapes, rank, ranks),
        ShardSettings(outer_optimizer(campaign), cluster.quorum, cluster.grace, cluster.norm_limit),
        coordinator,
        recorder.say,
    )


def outer_optimizer(campaign: Campaign) -> OuterOptimizer:
    """As [cluster] says."""
    cluster = campaign.cluster
    return OuterOptimizer(cluster.outer_learning_rate, cluster.outer_momentum, cluster.precision)


def initial_model(campaign: Campaign, vocab_size: int) -> Transformer:
    """The initial weights: a function of the seed."""
    model = Transformer(campaign.model, vocab_size, torch.float32)
    initialise(model, campaign.seed)
    return model


def vector_of(weights: dict[str, Tensor], fragment: Fragment) -> Tensor:
    """A fragment's parameters as one float32 vector."""
    return torch.cat([weights[name].reshape(-1) for name in fragment.names]).float().clone()


def _work(coordinator: Coordinator, shard: Shard, stop: StopRequest) -> None:
    """Merging in a thread, the watch over lives here."""
    stopping, fenced = threading.Event(), threading.Event()

    def merge() -> None:
        try:
            shard.run(stopping)
        except Fenced:
            fenced.set()

    merging = threading.Thread(target=merge, name="merging", daemon=True)
    merging.start()
    linger = threading.Event()
    while not (stop.is_set or fenced.is_set() or coordinator.finished):
        coordinator.tick()
        linger.wait(TICK_S)
    stopping.set()
    merging.join()
    if fenced.is_set():
        raise Fenced(f"{coordinator.folder}: another syncer took over; this one stops")
    if coordinator.finished:
        linger.wait(LINGER_S)
