"""A learner's process and its loop: take what has arrived, step, send what is due. It waits for nobody."""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tenfold.config import Campaign
from tenfold.core import InputError, Interrupted, StopRequest, TenfoldError, raise_file_limit, stop_on_signal
from tenfold.data import Manifest
from tenfold.learners.faults.inject import InjectedFaults, allow_faults_from_signals
from tenfold.learners.learner.connections import Connections
from tenfold.learners.learner.coordination import Agreement, LearnerStatus, NextAction
from tenfold.learners.learner.joining import (
    IncarnationEnded,
    JoinedIncarnation,
    Joiner,
    JoiningModel,
    LearnerSite,
    PeerService,
    snapshot_of,
)
from tenfold.learners.learner.replica import InnerStep, Replica, inner_step
from tenfold.learners.messages import Done, EndRequest, LeaveRequest
from tenfold.learners.outer import Fragment, local_part
from tenfold.learners.settings import batch_of, fragments_of, sharing_machine
from tenfold.learners.threads import WatchedThread, join_threads
from tenfold.learners.wire import BlobServer, Link, Security
from tenfold.train import (
    NOBODY,
    Checkpointer,
    CheckpointState,
    Learner,
    Observers,
    Ranks,
    RunPlan,
    build_learner,
    joined_ranks,
)

IDLE_S = 0.05
THREAD_S = 60.0  # far longer than any call of theirs, also on a machine that others use
GOODBYE_S = 5.0  # how long a learner that was asked to stop tries to send what it has
SMOOTHING = 0.9  # of the pace
WARM_UP_STEPS = 3
LOOPBACK = ("127.", "localhost", "[::1]")


@dataclass
class DecoupledLearner:
    """A learner through all its incarnations."""

    learner: Learner
    site: LearnerSite
    fragments: list[Fragment]
    batch: int
    """Samples of one inner step, all ranks together."""
    checkpointer: Checkpointer
    peers: PeerService
    stop: StopRequest
    faults: InjectedFaults = field(default_factory=InjectedFaults)
    observers: Observers = NOBODY
    """What watches its inner steps, as in the plain loop."""
    status: LearnerStatus = field(default_factory=LearnerStatus)

    def __post_init__(self) -> None:
        self.agree = Agreement(self.learner.ranks)
        self._seconds_per_step, self._saved_at, self._step_ended = 0.0, -1, 0.0
        self._threads: list[WatchedThread] = []

    def run(self) -> None:
        """Train until the run is finished. Raises Interrupted when asked to stop, Refused when kept out."""
        try:
            self._run()
        finally:
            join_threads(self._threads, THREAD_S)

    def _run(self) -> None:
        joiner = Joiner(JoiningModel.of(self.learner), self.site, self.fragments, self.batch, self.stop, self.agree)
        abandoned: tuple[int, int] | None = None
        while True:
            try:
                joined = joiner.join(abandoned)
                if joined is None or self._incarnation(joined):
                    return
            except IncarnationEnded as error:
                abandoned = error.incarnation, error.steps
                print(f"{self.site.name}: {error}; joining again", flush=True)

    def _incarnation(self, joined: JoinedIncarnation) -> bool:
        """Train from joining to the end; True when the run is finished."""
        with Connections(
            self.site, joined, self.batch, self.status, is_first=self.learner.ranks.is_first
        ) as connections:
            self._threads = [thread for thread in self._threads if thread.is_alive] + connections.threads
            return self._train(joined.replica, connections)

    def _train(self, replica: Replica, connections: Connections) -> bool:
        """Train; True when the run is finished."""
        self.status.step, self.status.longest_gap = 0, 0.0
        self._step_ended = 0.0
        while True:
            self.peers.serve(lambda: (snapshot_of(replica), self.learner.optimizers.state_tensors()))
            self._merge_arrived(replica, connections)
            what, step = self.agree.next(*self._what_next(replica, connections))
            match what:
                case NextAction.STEP:
                    assert step is not None
                    self._step(step, replica, connections)
                case NextAction.IDLE | NextAction.FLUSH:
                    self._idle(what, replica, connections)
                case NextAction.FINISHED:
                    return True
                case NextAction.ENDED:
                    raise IncarnationEnded(replica, connections.why_ended or "ended by another rank")
                case NextAction.STOP:
                    self._leave(replica, connections)

    def _what_next(self, replica: Replica, connections: Connections) -> tuple[NextAction, InnerStep | None]:
        if self.stop.is_set:
            return NextAction.STOP, None
        if connections.is_finished:
            return NextAction.FINISHED, None
        if connections.why_ended:
            return NextAction.ENDED, None
        if connections.leases is None:
            return NextAction.STEP, None  # as the first rank says
        if step := connections.leases.next(IDLE_S):
            return NextAction.STEP, replica.placed(step)
        return (NextAction.FLUSH if connections.leases.is_exhausted else NextAction.IDLE), None

    def _step(self, step: InnerStep, replica: Replica, connections: Connections) -> None:
        """One inner step, then whatever fragments are due."""
        began = time.perf_counter()
        self.status.idle = self.status.flushed = False
        measure = inner_step(self.learner, step, self.observers)
        if self.faults.make_nan:
            self.faults.make_nan = False
            local_part(next(self.learner.model.parameters())).fill_(math.nan)
        if not measure.is_finite:
            raise self._end(replica, "its loss is not finite")
        due = replica.due()
        if not self.agree.all(all(replica.fragments[index].is_finite for index in due)):
            raise self._end(replica, "its weights are not finite")
        tokens = step.samples * self.learner.plan.context
        replica.trained(tokens)
        self._send(due, replica, connections)
        if not self.learner.campaign.learners.overlap:
            self._await_merges(replica, connections)
        self._note(step, measure.nats * tokens, tokens, measure.bytes, time.perf_counter() - began, connections)
        self._save_sometimes(step, replica)

    def _note(
        self, step: InnerStep, nats: float, tokens: int, size: float, seconds: float, connections: Connections
    ) -> None:
        before = self._seconds_per_step
        self._seconds_per_step = SMOOTHING * before + (1 - SMOOTHING) * seconds if before else seconds
        if connections.leases:
            connections.leases.pace(self._seconds_per_step)
        self.status.step += 1
        now = time.monotonic()
        if self._step_ended and self.status.step > WARM_UP_STEPS:
            self.status.longest_gap = max(self.status.longest_gap, now - self._step_ended)
        self._step_ended = now
        self.status.tokens_per_second = tokens / self._seconds_per_step
        if connections.heartbeat:
            connections.heartbeat.loss(step.position, nats, tokens, size)

    def _send(self, indices: list[int], replica: Replica, connections: Connections) -> None:
        """Contribute those fragments of which no contribution is under way."""
        for acknowledged in connections.uplink.take_acknowledged():
            replica.acknowledged(acknowledged)
        for index in self.agree.free(indices, connections.uplink.busy()):
            contribution, data = replica.contribute(index)
            if replica.ranks > 1 or self.learner.ranks.is_first:  # where all hold the whole model (DDP) one is enough
                connections.uplink.send(contribution, data)
            else:
                replica.acknowledged(contribution)

    def _merge_arrived(self, replica: Replica, connections: Connections) -> None:
        ready = connections.downlink.ready()  # a newer one may come any moment: what was agreed on is taken from here
        versions = {index: arrived.version for index, arrived in ready.items()}
        for index in self.agree.versions(versions, len(replica.fragments)):
            arrived = ready[index]
            replica.merge(index, arrived.version, arrived.values, arrived.contained, arrived.published)
            connections.downlink.taken(index, arrived)

    def _await_merges(self, replica: Replica, connections: Connections) -> None:
        """Without overlap: go on when everything sent is merged."""
        while not self.agree.all(not any(f.awaits_merge for f in replica.fragments)):
            if self.agree.next(self._interruption(connections))[0] is not NextAction.IDLE:
                return  # the loop above deals with it
            self.status.waits += 1
            connections.downlink.wait(IDLE_S)
            self._merge_arrived(replica, connections)
            self.peers.serve(lambda: (snapshot_of(replica), self.learner.optimizers.state_tensors()))

    def _interruption(self, connections: Connections) -> NextAction:
        over = self.stop.is_set or connections.why_ended or connections.is_finished
        return NextAction.ENDED if over else NextAction.IDLE

    def _idle(self, what: NextAction, replica: Replica, connections: Connections) -> None:
        """Nothing to train now: send what is left, so that the run can end, and be ready for more."""
        self.status.waits += 1
        self.status.idle = what is NextAction.FLUSH
        if self.status.idle:
            self._step_ended = 0.0  # nothing to do is no stall
            self._send(replica.unsent(), replica, connections)
            self.status.flushed = self.agree.all(connections.uplink.is_empty and not replica.unsent())

    def _leave(self, replica: Replica, connections: Connections) -> None:
        """Asked to stop: send what is trained, say goodbye."""
        deadline, sent, over = time.monotonic() + GOODBYE_S, False, False
        while not (sent or over):
            self._send(replica.unsent(), replica, connections)  # until all are gone: of some one is under way already
            sent = self.agree.all(connections.uplink.is_empty and not replica.unsent())
            over = not self.agree.all(connections.why_ended is None and time.monotonic() < deadline)
            time.sleep(IDLE_S)
        if self.learner.ranks.is_first:
            self._tell(LeaveRequest(incarnation=replica.number))
        how = "what it trained is sent" if sent else "not all of what it trained could be sent"
        raise Interrupted(f"{self.site.name}: stopped as asked; {how}")

    def _end(self, replica: Replica, reason: str) -> IncarnationEnded:
        if self.learner.ranks.is_first:
            self._tell(EndRequest(incarnation=replica.number, reason=reason))
        return IncarnationEnded(replica, reason)

    def _tell(self, request: EndRequest | LeaveRequest) -> None:
        link = Link(self.site.syncer, self.site.security, patience=GOODBYE_S)
        with closing(link), suppress(TenfoldError):  # the syncer may be away; it will notice by itself
            link.ask(request, Done)

    def _save_sometimes(self, step: InnerStep, replica: Replica) -> None:
        """The inner state, in the background, so that a machine that was lost whole goes on near where it was."""
        at = step.position // self.learner.plan.sequences
        if replica.step % self.learner.campaign.checkpoint.every or at <= self._saved_at:
            return
        if not self.agree.all(not self.checkpointer.is_busy):  # training never waits for a disk
            print(f"{self.site.name}: no checkpoint at {at}: the one before is still being written", flush=True)
            return
        try:
            self.checkpointer.wait()
        except TenfoldError as error:  # a full disk: the syncer's own state is what must be safe
            print(f"{self.site.name}: warning: {error}", flush=True)
        tensors = self.learner.optimizers.state_tensors()
        self.checkpointer.save(CheckpointState(tensors, at, step.position, snapshot_of(replica).to_json()))
        self._saved_at = at


def train_as_learner(
    campaign: Campaign, data: Path, manifest: Manifest, name: str, syncer: str, security: Security, states: Path
) -> None:
    """Join a run and train until it is finished. `syncer`: its address, or those of all its shards with commas between.

    Raises Interrupted when asked to stop, Refused when kept out.
    """
    raise_file_limit()
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
