"""The syncer's processes: what arrives on their ports, and how each serves and merges until the run is finished.

The first holds the coordinator and shard 0, and notices deaths; the others (`[learners] syncer_shards`) a shard each.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tenfold.config import Campaign
from tenfold.core import StopRequest, TenfoldError, file_limit, raise_file_limit
from tenfold.learners.messages import (
    EndRequest,
    HealedRequest,
    Heartbeat,
    JoinRequest,
    LeaseRequest,
    LeaveRequest,
    ShardReport,
    ShardsRequest,
    StatusRequest,
)
from tenfold.learners.outer import cut_model, shard_of, spans_of_rank, vector_of
from tenfold.learners.settings import initial_model, outer_optimizer
from tenfold.learners.syncer.coordinator import Coordinator
from tenfold.learners.syncer.facts import RunFacts
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.remote import RemoteMembership, RemoteShard
from tenfold.learners.syncer.shard import MembershipSource, ShardHandler, ShardSettings, SyncerShard
from tenfold.learners.syncer.store import Fenced, FragmentStore
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import BlobServer, Security
from tenfold.ledger import EventPayload, FilesShort, Ledger, SyncerServing
from tenfold.train import RunIdentity, RunPlan

TICK_S = 0.1
RETRY_S = 1.0
FILES_LOOK_S = 5.0
FILES_SHORT = 0.8  # of what this process may have open
LINGER_S = 2.0  # learners hear at their next heartbeat that the run is finished


class SyncerHandler(ShardHandler):
    """What arrives on the ports of the process that holds the coordinator and the first shard."""

    def __init__(self, coordinator: Coordinator, shard: SyncerShard, rejected: Callable[[str], None]) -> None:
        super().__init__(shard, rejected)
        self._answer(JoinRequest, coordinator.join)
        self._answer(ShardsRequest, coordinator.addresses)
        self._answer(HealedRequest, coordinator.healed)
        self._answer(LeaseRequest, coordinator.lease)
        self._answer(Heartbeat, coordinator.heartbeat)
        self._answer(EndRequest, coordinator.end)
        self._answer(LeaveRequest, coordinator.leave)
        self._answer(ShardReport, coordinator.report)
        self._answer(StatusRequest, lambda _: coordinator.status())


@dataclass(frozen=True)
class SyncerSite:
    """Where a syncer keeps its state and listens."""

    folder: Path
    security: Security
    bind: str
    port: int
    bulk_port: int = 0

    def shard(self, number: int) -> Path:
        """Where a shard keeps its merge log and its versions."""
        return self.folder / f"shard-{number}"


def serve(
    campaign: Campaign,
    plan: RunPlan,
    vocab_size: int,
    identity: RunIdentity,
    where: SyncerSite,
    open_ledger: Callable[[], tuple[Ledger, int]],
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Coordinator and shard 0, until stopped; True when the run is finished. `ready` is told when it listens.

    Raises Fenced when another syncer takes over.
    """
    raise_file_limit()
    recorder = Recorder(open_ledger, lambda line: print(line, flush=True))
    facts = RunFacts(
        identity.recipe,
        identity.code,
        identity.config,
        identity.manifest,
        plan.steps * plan.sequences,
        plan.sequences,
        campaign.learners.strikes,
        campaign.learners.stalled_after,
        campaign.learners.count,
    )
    coordinator = Coordinator(where.folder, facts, recorder)
    shard = make_shard(campaign, vocab_size, where.shard(0), coordinator, recorder)
    coordinator.remote = remote_shards(campaign, where.security)
    coordinator.shards += [shard, *coordinator.remote.values()]
    server = _server(SyncerHandler(coordinator, shard, recorder.rejected), where)
    try:
        ready(server)
        recorder.say(SyncerServing(), "the syncer serves")
        work_until_done(coordinator, shard, stop, FileWatch(recorder.say))
        return coordinator.finished
    finally:
        server.close()
        coordinator.close()
        shard.store.close()
        recorder.close()


def serve_shard(
    campaign: Campaign,
    number: int,
    vocab_size: int,
    identity: RunIdentity,
    where: SyncerSite,
    find: Callable[[], str | None],
    open_ledger: Callable[[], tuple[Ledger, int]],
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Shard `number`, from 1 on, until stopped; True when the run is finished. `find` tells where the coordinator is.

    Raises Fenced when another process takes over, Refused when the coordinator does not want this one.
    """
    raise_file_limit()
    recorder = Recorder(open_ledger, lambda line: print(line, flush=True))
    members = RemoteMembership(find, where.security, number, identity.recipe, identity.code)
    shard = make_shard(campaign, vocab_size, where.shard(number), members, recorder, number)
    server = _server(ShardHandler(shard, recorder.rejected), where)
    try:
        members.follow(shard, server.address)
        ready(server)
        recorder.say(SyncerServing(shard=number), f"shard {number} of the syncer serves")
        _merge_while_wanted(shard, members, stop, FileWatch(recorder.say))
        return members.finished
    finally:
        members.close()
        server.close()
        shard.store.close()
        recorder.close()


def _server(handler: ShardHandler, where: SyncerSite) -> BlobServer:
    return BlobServer(handler, where.security, bind=where.bind, control_port=where.port, bulk_port=where.bulk_port)


def remote_shards(campaign: Campaign, security: Security) -> dict[int, RemoteShard]:
    """The shards in processes of their own, by number."""
    count = campaign.learners.syncer_shards
    held = {
        number: [i for i in range(campaign.learners.fragments) if shard_of(i, count) == number]
        for number in range(count)
    }
    return {number: RemoteShard(number, held[number], security) for number in range(1, count)}


def make_shard(
    campaign: Campaign, vocab_size: int, folder: Path, members: MembershipSource, recorder: Recorder, number: int = 0
) -> SyncerShard:
    """A shard of a campaign's model, at its newest versions or at the initial weights."""
    learners, model = campaign.learners, initial_model(campaign, vocab_size)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    fragments = cut_model(shapes, learners.fragments)
    store = FragmentStore(folder)
    store.tidy()
    return SyncerShard(
        store,
        {each.index: each for each in fragments if shard_of(each.index, learners.syncer_shards) == number},
        lambda fragment: vector_of(weights, fragment),
        lambda fragment, rank, ranks: spans_of_rank(fragment, shapes, rank, ranks),
        ShardSettings(outer_optimizer(campaign), learners.quorum, learners.grace, learners.norm_limit),
        members,
        recorder.say,
    )


class FileWatch:
    """Says when this process is close to the most files and connections that it may have open."""

    def __init__(self, say: Callable[[EventPayload, str], None], limit: Callable[[], int] = file_limit) -> None:
        self._say, self._limit, self._looked_at, self._is_short = say, limit, -math.inf, False

    def look(self, now: float) -> None:
        """Called often; looks every FILES_LOOK_S seconds of `now`."""
        if now - self._looked_at < FILES_LOOK_S:
            return
        self._looked_at = now
        files, limit = psutil.Process().num_fds(), self._limit()
        is_short = files > FILES_SHORT * limit
        if is_short and not self._is_short:
            message = (
                f"{files} of the {limit} files and connections that this process may have open are in use; learners "
                "that join may not reach it: raise the limit (ulimit -n), or set learners.syncer_shards higher"
            )
            self._say(FilesShort(files, limit), message)
        self._is_short = is_short


def work_until_done(coordinator: Coordinator, shard: SyncerShard, stop: StopRequest, files: FileWatch) -> None:
    """Merging in a thread, the watch over learners here."""
    stopping, linger = threading.Event(), threading.Event()
    merging = WatchedThread("merging", lambda: shard.run(stopping))
    while not (stop.is_set or merging.failure or coordinator.finished):
        files.look(time.monotonic())
        linger.wait(TICK_S if _ticked(coordinator) else RETRY_S)
    stopping.set()
    merging.join()
    merging.check()
    if coordinator.finished:
        linger.wait(LINGER_S)


def _ticked(coordinator: Coordinator) -> bool:
    """Whether it could do what time asks for; a full disk is no reason to die of. Raises Fenced."""
    try:
        coordinator.tick()
    except Fenced:
        raise
    except TenfoldError as error:
        print(f"warning: {error}; tried again", flush=True)
        return False
    return True


def _merge_while_wanted(shard: SyncerShard, members: RemoteMembership, stop: StopRequest, files: FileWatch) -> None:
    """Merging in a thread; here it is noticed that nobody wants it any more."""
    stopping, wait = threading.Event(), threading.Event()

    def merge() -> None:
        members.await_first(stopping)
        shard.run(stopping)

    merging = WatchedThread("merging", merge)
    while not (stop.is_set or merging.failure or members.failure or members.finished):
        files.look(time.monotonic())
        wait.wait(TICK_S)
    stopping.set()
    merging.join()
    if members.failure:
        raise members.failure
    merging.check()
