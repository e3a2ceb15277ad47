"""A learner's loop: take what has arrived, step, send what is due. It waits for nobody."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from tenfold.cluster.chaos.inside import InjectedFaults
from tenfold.cluster.fragments import Fragment, local_part
from tenfold.cluster.learner.agreement import Agreement, What
from tenfold.cluster.learner.downlink import Arrived, Downlink, fetch_all
from tenfold.cluster.learner.inner_state import (
    INITIAL,
    Origin,
    PeerService,
    from_checkpoint,
    from_peer,
    origin_header,
)
from tenfold.cluster.learner.life import Life
from tenfold.cluster.learner.local import LocalFragment
from tenfold.cluster.learner.pulse import Pulse, Vitals
from tenfold.cluster.learner.supply import Order, Supply
from tenfold.cluster.learner.uplink import Uplink
from tenfold.cluster.syncer.shelf import digest_of
from tenfold.cluster.wire import Link, Refused, Security, Unreachable, parse_address, reached
from tenfold.errors import Interrupted, TenfoldError
from tenfold.train.checkpoint import Checkpointer, CheckpointState
from tenfold.train.learner import Learner
from tenfold.train.schedule import learning_rate_factor
from tenfold.train.signals import StopRequest
from tenfold.train.step import train_step

IDLE_S = 0.05
JOIN_PATIENCE_S = 5.0
SAY_AGAIN_S = 30.0  # between two lines that say why joining does not succeed
GOODBYE_S = 5.0  # how long a learner that was asked to stop tries to send what it has
SMOOTHING = 0.9  # of the pace
WARM_UP_STEPS = 3
T = TypeVar("T")


class LifeEnded(TenfoldError):
    """The syncer has ended this life, or it ended itself: join again."""


@dataclass(frozen=True)
class Site:
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
    site: Site
    fragments: list[Fragment]
    batch: int
    """Samples of one inner step, all ranks together."""
    checkpointer: Checkpointer
    peers: PeerService
    stop: StopRequest
    faults: InjectedFaults = field(default_factory=InjectedFaults)
    vitals: Vitals = field(default_factory=Vitals)

    def __post_init__(self) -> None:
        self.agree = Agreement(self.learner.ranks)
        self._parameters = {f"{n}": local_part(p) for n, p in self.learner.model.named_parameters()}
        self._seconds_per_step, self._saved_at, self._step_ended = 0.0, -1, 0.0
        self._abandoned: list[int] | None = None
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
                    if self._live(life, wires):
                        return
            except LifeEnded as error:
                self._abandoned = [life.number, life.step]
                print(f"{self.site.name}: {error}; joining again", flush=True)

    # Joining

    def _join(self) -> tuple[Life, dict[str, Any], dict[int, tuple[int, Tensor]]] | None:
        """Become whole before the first step; None when the run is finished already."""
        began = time.monotonic()
        with closing(Link(self.site.syncer, self.site.security, patience=JOIN_PATIENCE_S)) as link:
            ticket = self._ticket(link)
            number = self.agree.number(-1 if ticket.get("finished") else int(ticket["life"]))
            if number < 0:
                return None
            self.shards = self._insist(lambda: self._find_shards(link))
        start = self._insist(self._newest_versions)
        life = self._life(number, start)
        origin = self._heal_inner_state(ticket.get("peers", []))
        return life, origin.to_dict(time.monotonic() - began), start

    def _ticket(self, link: Link) -> dict[str, Any]:
        """Ask to join, for as long as the syncer is away."""
        if not self.learner.ranks.is_first:
            return {"life": -1}
        request = {
            "name": self.site.name,
            "address": self.site.address,
            "batch": self.batch,
            "recipe": self.learner.identity.recipe,
            "abandoned": self._abandoned,
        }
        return self._insist(lambda: link.call("join", request))

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask the syncer for as long as it is away."""
        said_at = -math.inf
        while True:
            try:
                return ask()
            except Unreachable as error:
                if self.stop.is_set:
                    raise Interrupted(f"{self.site.name}: stopped as asked") from None
                if time.monotonic() - said_at > SAY_AGAIN_S:
                    print(f"{self.site.name}: cannot join yet: {error}; trying again", file=sys.stderr, flush=True)
                    said_at = time.monotonic()

    def _find_shards(self, link: Link) -> list[str]:
        """Where each shard of the syncer listens."""
        host = parse_address(self.site.syncer)[0]
        found = self.site.shards or [reached(str(address), host) for address in link.call("shards", {})["shards"]]
        return [self.site.syncer, *found]

    def _newest_versions(self) -> dict[int, tuple[int, Tensor]]:
        with ExitStack() as stack:
            links = [Link(address, self.site.security, patience=JOIN_PATIENCE_S) for address in self.shards]
            for link in links:
                stack.callback(link.close)
            return fetch_all(links, range(len(self.fragments)), self._part)

    @property
    def _part(self) -> tuple[int, int]:
        return self.learner.ranks.rank, self.learner.ranks.world_size

    def _life(self, number: int, start: Mapping[int, tuple[int, Tensor]]) -> Life:
        settings, (rank, ranks) = self.learner.campaign.cluster, self._part
        local = [
            LocalFragment(fragment, [self._parameters[name] for name in fragment.names], settings.precision)
            for fragment in self.fragments
        ]
        for fragment in local:
            fragment.adopt(*start[fragment.fragment.index])
        return Life(number, local, settings.inner_steps, settings.precision, rank, ranks)

    def _heal_inner_state(self, peers: list[dict[str, Any]]) -> Origin:
        """The moments of the freshest learner that answers, else of the newest checkpoint, else zero."""
        into = self.learner.optimizers.state_tensors()
        for peer in peers if self._part == (0, 1) else []:
            with suppress(TenfoldError):
                return from_peer(str(peer["address"]), self.site.security, into)
        folders = sorted(path for path in self.site.checkpoints.glob("*") if path.is_dir())
        found = from_checkpoint(folders, into, *self._part)
        if found is None:
            for tensor in into.values():
                tensor.zero_()
        return found or INITIAL

    def _announce(self, life: Life, origin: dict[str, Any]) -> None:
        """Prove that every fragment is what was published; only then are there samples to train on."""
        digests = {str(f.fragment.index): [f.version, digest_of(f.here())] for f in life.fragments}
        if not self.learner.ranks.is_first:
            return  # each rank has checked its part against the digest it came with
        link = Link(self.site.syncer, self.site.security, patience=math.inf)
        try:
            link.call("healed", {"life": life.number, "origin": origin, "digests": digests})
        except Refused as error:
            raise LifeEnded(str(error)) from error
        finally:
            link.close()

    # Living

    def _live(self, life: Life, wires: "_Connections") -> bool:
        """Train; True when the run is finished."""
        self.vitals.step, self.vitals.phase, self.vitals.longest_gap = 0, "step", 0.0
        self._step_ended = 0.0
        while True:
            self.peers.serve(lambda: (origin_header(life), self.learner.optimizers.state_tensors()))
            self._merge_arrived(life, wires)
            what, order = self.agree.next(*self._what_next(wires))
            match what:
                case What.STEP:
                    assert order is not None
                    self._step(order, life, wires)
                case What.IDLE:
                    self._idle(life, wires)
                case What.FINISHED:
                    return True
                case What.ENDED:
                    raise LifeEnded(f"life {life.number}: {wires.why_ended}")
                case What.STOP:
                    self._leave(life, wires)

    def _what_next(self, wires: "_Connections") -> tuple[What, Order | None]:
        if self.stop.is_set:
            return What.STOP, None
        if wires.pulse.finished or wires.supply.finished:
            return What.FINISHED, None
        if wires.why_ended:
            return What.ENDED, None
        order = wires.supply.next(IDLE_S)
        return (What.STEP, order) if order else (What.IDLE, None)

    def _step(self, order: Order, life: Life, wires: "_Connections") -> None:
        """One inner step, then whatever fragments are due."""
        began = time.perf_counter()
        self.vitals.idle = self.vitals.flushed = False
        nats, size = inner_step(self.learner, order)
        if self.faults.make_nan:
            self.faults.make_nan = False
            next(iter(self._parameters.values())).fill_(math.nan)
        if not math.isfinite(nats):
            raise self._end(life, "its loss is not finite")
        tokens = order.samples * self.learner.plan.context
        life.trained(tokens)
        self._send(self.agree.free(life.due(), wires.uplink.busy()), life, wires)
        if not self.learner.campaign.cluster.overlap:
            self._await_merges(life, wires)
        self._note(order, nats * tokens, tokens, size, time.perf_counter() - began, wires)
        self._save_sometimes(order, life)

    def _note(self, order: Order, nats: float, tokens: int, size: float, seconds: float, wires: "_Connections") -> None:
        before = self._seconds_per_step
        self._seconds_per_step = SMOOTHING * before + (1 - SMOOTHING) * seconds if before else seconds
        wires.supply.pace(self._seconds_per_step)
        self.vitals.step += 1
        now = time.monotonic()
        if self._step_ended and self.vitals.step > WARM_UP_STEPS:
            self.vitals.longest_gap = max(self.vitals.longest_gap, now - self._step_ended)
        self._step_ended = now
        self.vitals.tokens_per_second = tokens / self._seconds_per_step
        if self.learner.ranks.is_first:
            wires.pulse.loss(order.position, nats, tokens, size)

    def _send(self, indices: list[int], life: Life, wires: "_Connections") -> None:
        for acknowledged in wires.uplink.take_acknowledged():
            life.acknowledged(acknowledged)
        for index in indices:
            wires.uplink.send(*life.contribute(index))

    def _merge_arrived(self, life: Life, wires: "_Connections") -> None:
        for index in self.agree.versions(wires.downlink.ready(), len(life.fragments)):
            arrived = wires.downlink.take(index)
            life.merge(index, arrived.version, arrived.values, arrived.contained)

    def _await_merges(self, life: Life, wires: "_Connections") -> None:
        """Without overlap: go on when everything sent is merged."""
        while not self.agree.all(not any(f.awaits_merge for f in life.fragments)):
            if self.agree.next(*self._interruption(wires))[0] is not What.IDLE:
                return  # the loop above deals with it
            wires.downlink.wait(_anything, IDLE_S)
            self._merge_arrived(life, wires)
            self.peers.serve(lambda: (origin_header(life), self.learner.optimizers.state_tensors()))

    def _interruption(self, wires: "_Connections") -> tuple[What, None]:
        over = self.stop.is_set or wires.why_ended or wires.pulse.finished
        return (What.ENDED if over else What.IDLE), None

    def _idle(self, life: Life, wires: "_Connections") -> None:
        """Nothing to train now: send what is left, so that the run can end, and be ready for more."""
        self.vitals.detail += 1  # to wait is no hang
        if wires.supply.is_exhausted:
            self._step_ended = 0.0  # nothing to do is no stall
        self.vitals.idle = wires.supply.is_exhausted
        if wires.supply.is_exhausted:
            self._send(self.agree.free(life.unsent(), wires.uplink.busy()), life, wires)
            self.vitals.flushed = self.agree.all(wires.uplink.is_empty and not life.unsent())

    def _leave(self, life: Life, wires: "_Connections") -> None:
        """Asked to stop: send what is trained, say goodbye."""
        self._send(self.agree.free(life.unsent(), wires.uplink.busy()), life, wires)
        deadline = time.monotonic() + GOODBYE_S
        while not wires.uplink.is_empty and not wires.why_ended and time.monotonic() < deadline:
            time.sleep(IDLE_S)
        if self.learner.ranks.is_first:
            self._tell("leave", {"life": life.number})
        raise Interrupted(f"{self.site.name}: stopped as asked; what it trained is sent")

    def _end(self, life: Life, reason: str) -> LifeEnded:
        if self.learner.ranks.is_first:
            self._tell("end", {"life": life.number, "reason": reason})
        return LifeEnded(f"life {life.number}: {reason}")

    def _tell(self, method: str, request: dict[str, Any]) -> None:
        link = Link(self.site.syncer, self.site.security, patience=GOODBYE_S)
        with suppress(TenfoldError):  # the syncer may be away; it will notice by itself
            link.call(method, request)
        link.close()

    def _save_sometimes(self, order: Order, life: Life) -> None:
        """The inner state, so that a machine that was lost whole goes on near where it was."""
        step = order.position // self.learner.plan.sequences
        if life.step % self.learner.campaign.checkpoint.every or step <= self._saved_at:
            return
        self.vitals.phase = "saving"
        with suppress(TenfoldError):  # a full disk: the run goes on, and the syncer's own state is what must be safe
            tensors = self.learner.optimizers.state_tensors()
            self.checkpointer.save(CheckpointState(tensors, step, order.position, origin_header(life)))
            self._saved_at = step
        self.vitals.phase = "step"


def inner_step(learner: Learner, order: Order) -> tuple[float, float]:
    """Train on the samples of an order: nats per token and bytes of text, all ranks together.

    The learning rate follows the order's position in the whole run.
    """
    train, plan, ranks = learner.campaign.train, learner.plan, learner.ranks
    share = ranks.share(order.samples)
    tokens = torch.from_numpy(learner.stream.batch(order.first_sample + share.start, len(share)).astype(np.int64))
    micro_batches = list(torch.split(tokens.to(ranks.device, non_blocking=True), plan.micro_batch))
    factor = learning_rate_factor(train.schedule, min(order.position // plan.sequences, plan.steps - 1), plan.steps)
    result = train_step(
        learner.root, learner.optimizers, micro_batches, factor, train.optimizer.clip_norm, train.optimizer.z_loss
    )
    figures = torch.stack([result.nats.double(), learner.batch_bytes(micro_batches).double()])
    nats, size = ranks.mean(figures).tolist()
    return nats, size * ranks.world_size


def _anything(ready: Mapping[int, Arrived]) -> bool:
    return bool(ready)


class _Connections(AbstractContextManager["_Connections"]):
    """The threads that talk to the syncer during one life."""

    def __init__(self, owner: DecoupledLearner, life: Life, start: Mapping[int, tuple[int, Tensor]]) -> None:
        site, settings = owner.site, owner.learner.campaign.cluster

        def link() -> Link:
            return Link(site.syncer, site.security, streams=1)

        def links() -> list[Link]:
            return [Link(address, site.security, streams=4) for address in owner.shards]

        self._stack = ExitStack()
        self.uplink = self._closing(Uplink(links()))
        self.downlink = self._closing(Downlink(links(), life.number, start, settings.precision, owner._part))
        self.pulse = self._closing(Pulse(link(), life.number, owner.vitals))
        first = settings.inner_steps * owner.batch
        self.supply = self._closing(Supply(link(), life.number, owner.batch, first))

    def _closing(self, thing: Any) -> Any:
        self._stack.callback(thing.close)
        return thing

    @property
    def why_ended(self) -> str | None:
        """Why the syncer has ended this life; None while it goes on."""
        found = (self.pulse.ended, self.uplink.refused, self.supply.refused, self.downlink.refused)
        return next((str(reason) for reason in found if reason), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
