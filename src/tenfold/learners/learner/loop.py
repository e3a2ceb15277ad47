"""A learner's loop: take what has arrived, step, send what is due. It waits for nobody."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from tenfold.core.errors import Interrupted, TenfoldError
from tenfold.core.signals import StopRequest
from tenfold.learners.faults.inject import InjectedFaults
from tenfold.learners.learner.agreement import Agreement, NextAction
from tenfold.learners.learner.coordination import HeartbeatSender, LearnerStatus, LeaseQueue
from tenfold.learners.learner.exchange import Downlink, Uplink, fetch_all
from tenfold.learners.learner.joining import (
    INITIAL,
    InnerStateOrigin,
    PeerService,
    from_peer,
    load_checkpoint,
    newest_checkpoint,
    origin_header,
)
from tenfold.learners.learner.replica import FragmentReplica, InnerStep, Replica, inner_step
from tenfold.learners.outer import Fragment, digest_of_values, local_part
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Link, LinkMeasure, Refused, Security, Unreachable, parse_address, reached
from tenfold.train.checkpoint import Checkpointer, CheckpointState
from tenfold.train.learner import Learner

IDLE_S = 0.05
FINISHED, AWAY, STOPPED = -1, -2, -3  # instead of the number of a life: no need to join, ask again, do not
PEERS_ASKED = 2
THREAD_S = 8.0  # longer than any call of theirs
CHECKPOINT_TRIES = 3  # one that is found may be pruned by its owner before it is loaded
JOIN_PATIENCE_S = 5.0
SAY_AGAIN_S = 30.0  # between two lines that say why joining does not succeed
GOODBYE_S = 5.0  # how long a learner that was asked to stop tries to send what it has
SMOOTHING = 0.9  # of the pace
SENT_AT_A_TIME = 4  # contributions to each shard: on a long line each takes several round trips
WARM_UP_STEPS = 3
T = TypeVar("T")


class IncarnationEnded(TenfoldError):
    """The syncer has ended this life, or it ended itself: join again."""


@dataclass(frozen=True)
class LearnerSite:
    """Where this learner is and whom it talks to."""

    name: str
    syncer: str
    security: Security
    address: str | None
    """Of its own peer server, for learners that join."""
    checkpoints: Path
    """Folder of all learners' inner states; its own is `checkpoints/name`."""
    shards: tuple[str, ...] = ()
    """Where the syncer's further shards are reached; empty: where the syncer says."""


@dataclass
class DecoupledLearner:
    """A learner through all its lives."""

    learner: Learner
    site: LearnerSite
    fragments: list[Fragment]
    batch: int
    """Samples of one inner step, all ranks together."""
    checkpointer: Checkpointer
    peers: PeerService
    stop: StopRequest
    faults: InjectedFaults = field(default_factory=InjectedFaults)
    vitals: LearnerStatus = field(default_factory=LearnerStatus)

    def __post_init__(self) -> None:
        self.agree = Agreement(self.learner.ranks)
        parameters = dict(self.learner.model.named_parameters())
        self._parameters = {name: local_part(parameter) for name, parameter in parameters.items()}
        self._is_sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())
        self._seconds_per_step, self._saved_at, self._step_ended = 0.0, -1, 0.0
        self._abandoned: list[int] | None = None
        self._said_at = -math.inf
        self.shards = [self.site.syncer]

    def run(self) -> None:
        """Train until the run is finished. Raises Interrupted when asked to stop, Refused when kept out."""
        while True:
            joined = self._join()
            if joined is None:
                return
            life, origin, start = joined
            try:
                self._announce(life, origin)
                with _Connections(self, life, start) as wires:
                    finished = self._live(life, wires)
                if finished:
                    wires.join()
                    return
            except IncarnationEnded as error:
                self._abandoned = [life.number, life.step]
                print(f"{self.site.name}: {error}; joining again", flush=True)

    # Joining

    def _join(self) -> tuple[Replica, dict[str, Any], dict[int, tuple[int, Tensor]]] | None:
        """Become whole before the first step; None when the run is finished already."""
        began = time.monotonic()
        with closing(Link(self.site.syncer, self.site.security, patience=JOIN_PATIENCE_S)) as link:
            number, peers = self._ticket(link)
            if number == FINISHED:
                return None
            self.shards = self._insist(lambda: self._find_shards(link))
        start = self._newest_versions()
        life = self._life(number, start)
        origin = self._heal_inner_state(peers)
        return life, origin.to_dict(time.monotonic() - began, self.learner.ranks.world_size), start

    def _ticket(self, link: Link) -> tuple[int, list[dict[str, Any]]]:
        """A new life's number and who trains now. Asks for as long as the syncer is away."""
        while True:
            ticket = self._ask_to_join(link) if self.learner.ranks.is_first else {}
            number = self.agree.number(int(ticket.get("life", FINISHED)))
            if number == STOPPED:
                raise Interrupted(f"{self.site.name}: stopped as asked")
            if number != AWAY:
                return number, ticket.get("peers", [])

    def _ask_to_join(self, link: Link) -> dict[str, Any]:
        if self.stop.is_set:
            return {"life": STOPPED}
        request = {
            "name": self.site.name,
            "address": self.site.address,
            "batch": self.batch,
            "recipe": self.learner.identity.recipe,
            "abandoned": self._abandoned,
        }
        try:
            return link.call("join", request)
        except Unreachable as error:
            self._say_why(error)
            return {"life": AWAY}

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the syncer for as long as it is away."""
        while True:
            try:
                return ask()
            except Unreachable as error:
                if self.stop.is_set:
                    raise Interrupted(f"{self.site.name}: stopped as asked") from None
                self._say_why(error)

    def _say_why(self, error: Unreachable) -> None:
        if time.monotonic() - self._said_at > SAY_AGAIN_S:
            print(f"{self.site.name}: cannot join yet: {error}; trying again", file=sys.stderr, flush=True)
            self._said_at = time.monotonic()

    def _find_shards(self, link: Link) -> list[str]:
        """Where each shard of the syncer listens."""
        host = parse_address(self.site.syncer)[0]
        found = self.site.shards or [reached(str(address), host) for address in link.call("shards", {})["shards"]]
        return [self.site.syncer, *found]

    def _newest_versions(self) -> dict[int, tuple[int, Tensor]]:
        """Every fragment's newest version, the same one on every rank."""
        start: dict[int, tuple[int, Tensor]] = {}
        count = len(self.fragments)
        wanted = list(range(count))
        with ExitStack() as stack:
            links = [Link(address, self.site.security, patience=JOIN_PATIENCE_S) for address in self.shards]
            for link in links:
                stack.callback(link.close)
            while wanted:
                start |= self._insist(partial(fetch_all, links, wanted, self._part))
                same = self.agree.versions({index: version for index, (version, _) in start.items()}, count)
                wanted = [index for index in range(count) if index not in same]
        return start

    @property
    def _part(self) -> tuple[int, int]:
        """Which part of every fragment this rank holds, of how many."""
        return (self.learner.ranks.rank, self.learner.ranks.world_size) if self._is_sharded else (0, 1)

    @property
    def _speaks(self) -> bool:
        """Whether this rank sends what it contributes: where all hold the whole model (DDP), the first is enough."""
        return self._is_sharded or self.learner.ranks.is_first

    def _life(self, number: int, start: Mapping[int, tuple[int, Tensor]]) -> Replica:
        settings, (rank, ranks) = self.learner.campaign.learners, self._part
        local = [
            FragmentReplica(fragment, [self._parameters[name] for name in fragment.names], settings.precision)
            for fragment in self.fragments
        ]
        for fragment in local:
            fragment.adopt(*start[fragment.fragment.index])
        plan = self.learner.plan
        total = plan.steps * plan.sequences
        return Replica(number, local, settings.inner_steps, settings.precision, total, rank, ranks)

    def _heal_inner_state(self, peers: list[dict[str, Any]]) -> InnerStateOrigin:
        """The moments of the freshest learner that answers, else of the newest checkpoint, else zero."""
        into = self.learner.optimizers.state_tensors()
        for peer in peers[:PEERS_ASKED] if self.learner.ranks.world_size == 1 else []:
            with suppress(TenfoldError):
                return from_peer(str(peer["address"]), self.site.security, into)
        for _ in range(CHECKPOINT_TRIES):
            found = newest_checkpoint(self.site.checkpoints) if self.learner.ranks.is_first else ""
            where = self.agree.text(found)
            origin = load_checkpoint(self.site.checkpoints, where, into, self.learner.ranks) if where else None
            if self.agree.all(origin is not None):
                return origin or INITIAL
        for tensor in into.values():
            tensor.zero_()
        return INITIAL

    def _announce(self, life: Replica, origin: dict[str, Any]) -> None:
        """Prove that every rank holds what was published; only then are there samples to train on."""
        digests = [bytearray.fromhex(digest_of_values(fragment.here())) for fragment in life.fragments]
        of_ranks = self.agree.gathered(torch.stack([torch.frombuffer(each, dtype=torch.uint8) for each in digests]))
        held = {
            str(f.fragment.index): [f.version, *(bytes(rank[f.fragment.index].tolist()).hex() for rank in of_ranks)]
            for f in life.fragments
        }
        refused = ""
        if self.learner.ranks.is_first:
            refused = self._ask_to_train({"life": life.number, "origin": origin, "digests": held})
        if refused := self.agree.text(refused):
            raise IncarnationEnded(refused)

    def _ask_to_train(self, request: dict[str, Any]) -> str:
        """Why not; empty when the syncer agrees."""
        link = Link(self.site.syncer, self.site.security)
        try:
            self._insist(lambda: link.call("healed", request))
            return ""
        except Refused as error:
            return str(error)
        finally:
            link.close()

    # Living

    def _live(self, life: Replica, wires: "_Connections") -> bool:
        """Train; True when the run is finished."""
        self.vitals.step, self.vitals.longest_gap = 0, 0.0
        self._step_ended = 0.0
        while True:
            self.peers.serve(lambda: (origin_header(life), self.learner.optimizers.state_tensors()))
            self._merge_arrived(life, wires)
            what, order = self.agree.next(*self._what_next(life, wires))
            match what:
                case NextAction.STEP:
                    assert order is not None
                    self._step(order, life, wires)
                case NextAction.IDLE | NextAction.FLUSH:
                    self._idle(what, life, wires)
                case NextAction.FINISHED:
                    return True
                case NextAction.ENDED:
                    raise IncarnationEnded(f"life {life.number}: {wires.why_ended or 'ended by another rank'}")
                case NextAction.STOP:
                    self._leave(life, wires)

    def _what_next(self, life: Replica, wires: "_Connections") -> tuple[NextAction, InnerStep | None]:
        if self.stop.is_set:
            return NextAction.STOP, None
        if wires.is_finished:
            return NextAction.FINISHED, None
        if wires.why_ended:
            return NextAction.ENDED, None
        if wires.supply is None:
            return NextAction.STEP, None  # as the first rank says
        if order := wires.supply.next(IDLE_S):
            return NextAction.STEP, life.placed(order)
        return (NextAction.FLUSH if wires.supply.is_exhausted else NextAction.IDLE), None

    def _step(self, order: InnerStep, life: Replica, wires: "_Connections") -> None:
        """One inner step, then whatever fragments are due."""
        began = time.perf_counter()
        self.vitals.idle = self.vitals.flushed = False
        measure = inner_step(self.learner, order)
        if self.faults.make_nan:
            self.faults.make_nan = False
            next(iter(self._parameters.values())).fill_(math.nan)
        if not measure.is_finite:
            raise self._end(life, "its loss is not finite")
        due = life.due()
        if not self.agree.all(all(life.fragments[index].is_finite for index in due)):
            raise self._end(life, "its weights are not finite")
        tokens = order.samples * self.learner.plan.context
        life.trained(tokens)
        self._send(due, life, wires)
        if not self.learner.campaign.learners.overlap:
            self._await_merges(life, wires)
        self._note(order, measure.nats * tokens, tokens, measure.bytes, time.perf_counter() - began, wires)
        self._save_sometimes(order, life)

    def _note(
        self, order: InnerStep, nats: float, tokens: int, size: float, seconds: float, wires: "_Connections"
    ) -> None:
        before = self._seconds_per_step
        self._seconds_per_step = SMOOTHING * before + (1 - SMOOTHING) * seconds if before else seconds
        if wires.supply:
            wires.supply.pace(self._seconds_per_step)
        self.vitals.step += 1
        now = time.monotonic()
        if self._step_ended and self.vitals.step > WARM_UP_STEPS:
            self.vitals.longest_gap = max(self.vitals.longest_gap, now - self._step_ended)
        self._step_ended = now
        self.vitals.tokens_per_second = tokens / self._seconds_per_step
        if wires.pulse:
            wires.pulse.loss(order.position, nats, tokens, size)

    def _send(self, indices: list[int], life: Replica, wires: "_Connections") -> None:
        """Contribute those fragments of which no contribution is under way."""
        for acknowledged in wires.uplink.take_acknowledged():
            life.acknowledged(acknowledged)
        for index in self.agree.free(indices, wires.uplink.busy()):
            contribution, data = life.contribute(index)
            if self._speaks:
                wires.uplink.send(contribution, data)
            else:
                life.acknowledged(contribution)

    def _merge_arrived(self, life: Replica, wires: "_Connections") -> None:
        ready = wires.downlink.ready()  # a newer one may come any moment: what was agreed on is taken from here
        versions = {index: arrived.version for index, arrived in ready.items()}
        for index in self.agree.versions(versions, len(life.fragments)):
            arrived = ready[index]
            life.merge(index, arrived.version, arrived.values, arrived.contained, arrived.published)
            wires.downlink.taken(index, arrived)

    def _await_merges(self, life: Replica, wires: "_Connections") -> None:
        """Without overlap: go on when everything sent is merged."""
        while not self.agree.all(not any(f.awaits_merge for f in life.fragments)):
            if self.agree.next(self._interruption(wires))[0] is not NextAction.IDLE:
                return  # the loop above deals with it
            self.vitals.waits += 1
            wires.downlink.wait(IDLE_S)
            self._merge_arrived(life, wires)
            self.peers.serve(lambda: (origin_header(life), self.learner.optimizers.state_tensors()))

    def _interruption(self, wires: "_Connections") -> NextAction:
        over = self.stop.is_set or wires.why_ended or wires.is_finished
        return NextAction.ENDED if over else NextAction.IDLE

    def _idle(self, what: NextAction, life: Replica, wires: "_Connections") -> None:
        """Nothing to train now: send what is left, so that the run can end, and be ready for more."""
        self.vitals.waits += 1
        self.vitals.idle = what is NextAction.FLUSH
        if self.vitals.idle:
            self._step_ended = 0.0  # nothing to do is no stall
            self._send(life.unsent(), life, wires)
            self.vitals.flushed = self.agree.all(wires.uplink.is_empty and not life.unsent())

    def _leave(self, life: Replica, wires: "_Connections") -> None:
        """Asked to stop: send what is trained, say goodbye."""
        deadline, sent, over = time.monotonic() + GOODBYE_S, False, False
        while not (sent or over):
            self._send(life.unsent(), life, wires)  # again and again: of some fragments one is under way already
            sent = self.agree.all(wires.uplink.is_empty and not life.unsent())
            over = not self.agree.all(wires.why_ended is None and time.monotonic() < deadline)
            time.sleep(IDLE_S)
        if self.learner.ranks.is_first:
            self._tell("leave", {"life": life.number})
        how = "what it trained is sent" if sent else "not all of what it trained could be sent"
        raise Interrupted(f"{self.site.name}: stopped as asked; {how}")

    def _end(self, life: Replica, reason: str) -> IncarnationEnded:
        if self.learner.ranks.is_first:
            self._tell("end", {"life": life.number, "reason": reason})
        return IncarnationEnded(f"life {life.number}: {reason}")

    def _tell(self, method: str, request: dict[str, Any]) -> None:
        link = Link(self.site.syncer, self.site.security, patience=GOODBYE_S)
        with suppress(TenfoldError):  # the syncer may be away; it will notice by itself
            link.call(method, request)
        link.close()

    def _save_sometimes(self, order: InnerStep, life: Replica) -> None:
        """The inner state, in the background, so that a machine that was lost whole goes on near where it was."""
        step = order.position // self.learner.plan.sequences
        if life.step % self.learner.campaign.checkpoint.every or step <= self._saved_at:
            return
        if not self.agree.all(not self.checkpointer.is_busy):  # training never waits for a disk
            print(f"{self.site.name}: no checkpoint at {step}: the one before is still being written", flush=True)
            return
        try:
            self.checkpointer.wait()
        except TenfoldError as error:  # a full disk: the syncer's own state is what must be safe
            print(f"{self.site.name}: warning: {error}", flush=True)
        tensors = self.learner.optimizers.state_tensors()
        self.checkpointer.save(CheckpointState(tensors, step, order.position, origin_header(life)))
        self._saved_at = step


class _Connections(AbstractContextManager["_Connections"]):
    """The threads that talk to the syncer during one life. Only the first rank takes samples and tells how it is."""

    def __init__(self, owner: DecoupledLearner, life: Replica, start: Mapping[int, tuple[int, Tensor]]) -> None:
        site, settings = owner.site, owner.learner.campaign.learners

        def link() -> Link:
            return Link(site.syncer, site.security, streams=1)

        def links(measure: LinkMeasure) -> list[Link]:
            return [Link(address, site.security, streams=4, measure=measure) for address in owner.shards]

        at_a_time = min(SENT_AT_A_TIME, len(owner.fragments))

        self._stack = ExitStack()
        up, down = LinkMeasure(), LinkMeasure()
        self.uplink: Uplink = self._closing(Uplink(list(zip(*(links(up) for _ in range(at_a_time)), strict=True))))
        self.downlink: Downlink = self._closing(
            Downlink(links(down), life.number, start, settings.precision, owner._part)
        )
        self.pulse: HeartbeatSender | None = None
        self.supply: LeaseQueue | None = None
        if owner.learner.ranks.is_first:
            self.pulse = self._closing(HeartbeatSender(link(), life.number, owner.vitals, up, down))
            first = settings.inner_steps * owner.batch
            self.supply = self._closing(LeaseQueue(link(), life.number, owner.batch, first))

    def _closing(self, thing: Any) -> Any:
        self._stack.callback(thing.close)
        return thing

    @property
    def is_finished(self) -> bool:
        """Whether the syncer has said that the run is finished."""
        return bool(self.pulse and self.pulse.finished) or bool(self.supply and self.supply.finished)

    @property
    def why_ended(self) -> str | None:
        """Why the syncer has ended this life; None while it goes on. Raises TenfoldError when a thread has failed."""
        for thread in self._threads:
            thread.check()
        found = [self.uplink.refused, self.downlink.refused]
        found += [self.pulse.ended if self.pulse else None, self.supply.refused if self.supply else None]
        return next((reason for reason in found if reason), None)

    def join(self) -> None:
        """After the life: the interpreter must not end while a thread is inside Arrow, which may crash of it."""
        for thread in self._threads:
            thread.join(THREAD_S)

    @property
    def _threads(self) -> list[WatchedThread]:
        of_first = [*self.pulse.threads, *self.supply.threads] if self.pulse and self.supply else []
        return [*self.uplink.threads, *self.downlink.threads, *of_first]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
