"""Joining: a learner becomes whole before its first step, and helps others to.

It takes the newest fragments from the syncer and the inner optimizer's state from a learner that trains, else from the
newest checkpoint, else that begins at zero; then it proves by digest that every fragment it holds was published.
"""

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tenfold.config import Precision
from tenfold.core import Interrupted, StopRequest, TenfoldError
from tenfold.learners.learner.coordination import Agreement
from tenfold.learners.learner.exchange import Known, fetch_all
from tenfold.learners.learner.replica import FragmentReplica, Replica
from tenfold.learners.messages import (
    Done,
    HealedRequest,
    HeldFragment,
    JoinReply,
    JoinRequest,
    Origin,
    Peer,
    ShardsReply,
    ShardsRequest,
    Snapshot,
    parse,
)
from tenfold.learners.outer import Fragment, digest_of_values, local_part
from tenfold.learners.wire import Blob, Link, Refused, Security, Unreachable, parse_address, reached
from tenfold.train import Checkpointer, Learner, Ranks

KEY = "inner-state"
SNAPSHOT_S = 5.0  # a peer that does not reach its next step within this cannot help
PEER_PATIENCE_S = 1.5  # without a byte; more peers may have died just now
FINISHED, AWAY, STOPPED = -1, -2, -3  # instead of the number of an incarnation: no need to join, ask again, do not
PEERS_ASKED = 2
CHECKPOINT_TRIES = 3  # one that is found may be pruned by its owner before it is loaded
JOIN_PATIENCE_S = 5.0
SAY_AGAIN_S = 30.0  # between two lines that say why joining does not succeed
INITIAL = Origin(kind="initial")
T = TypeVar("T")


class IncarnationEnded(TenfoldError):
    """The syncer has ended this incarnation after so many steps, or it ended itself: join again."""

    def __init__(self, replica: Replica, reason: str) -> None:
        super().__init__(f"incarnation {replica.number}: {reason}")
        self.incarnation, self.steps = replica.number, replica.step


@dataclass(frozen=True)
class LearnerSite:
    """Where this learner is and whom it talks to."""

    name: str
    syncer: str
    security: Security
    address: str | None
    """Of its own peer server, for learners that join."""
    checkpoints: Path | None
    """Folder of all learners' inner states, its own is `checkpoints/name`; None where none are kept."""
    shards: tuple[str, ...] = ()
    """Where the syncer's further shards are reached; empty: where the syncer says."""


@dataclass(frozen=True)
class JoinedIncarnation:
    """What a learner begins an incarnation with."""

    replica: Replica
    start: Known
    """Version and values of every fragment."""
    shards: list[str]
    """Where each shard of the syncer listens."""


class InnerState(Protocol):
    """The inner optimizer's state, whoever's optimizer it is."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of it, by name; writing into them changes it."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take all of another learner's, or none. Raises TenfoldError when they are not what this model needs."""

    def clear(self) -> None:
        """Begin at zero."""


@dataclass(frozen=True)
class MomentsOf:
    """The state of tenfold's own optimizers."""

    learner: Learner

    def tensors(self) -> dict[str, Tensor]:
        """Moments and step counts."""
        return self.learner.optimizers.state_tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill them."""
        fill(self.tensors(), tensors)

    def clear(self) -> None:
        """All zero."""
        for tensor in self.tensors().values():
            tensor.zero_()


@dataclass(frozen=True)
class JoinIdentity:
    """What all learners of a run share: `recipe` is the digest of configuration and corpus."""

    recipe: str
    code: str
    config: Mapping[str, Any]
    manifest: str


@dataclass(frozen=True)
class JoiningModel:
    """What a learner joins with: its model, what makes two learners those of one run, and how they exchange."""

    model: nn.Module
    inner: InnerState
    ranks: Ranks
    identity: JoinIdentity
    precision: Precision
    inner_steps: int
    total: int
    """Samples of the whole run."""

    @classmethod
    def of(cls, learner: Learner) -> "JoiningModel":
        """Of a learner that is built from a campaign."""
        of, settings, plan = learner.identity, learner.campaign.learners, learner.plan
        identity = JoinIdentity(of.recipe, of.code, of.config, of.manifest)
        total = plan.steps * plan.sequences
        inner = MomentsOf(learner)
        return cls(learner.model, inner, learner.ranks, identity, settings.precision, settings.inner_steps, total)


@dataclass
class Joiner:
    """Makes a learner whole. Every method is taken by all its ranks together."""

    joining: JoiningModel
    site: LearnerSite
    fragments: Sequence[Fragment]
    batch: int
    """Samples of one inner step, all ranks together."""
    stop: StopRequest
    agree: Agreement
    _said_at: float = field(default=-math.inf, init=False)

    def join(self, abandoned: tuple[int, int] | None) -> JoinedIncarnation | None:
        """Become whole before the first step; None when the run is finished already.

        `abandoned`: (incarnation, steps) of the one that this process lived before. Raises Interrupted when asked to
        stop, Refused when kept out, IncarnationEnded when the syncer does not accept what is held here.
        """
        began = time.monotonic()
        with closing(Link(self.site.syncer, self.site.security, patience=JOIN_PATIENCE_S)) as link:
            number, peers = self._ticket(link, abandoned)
            if number == FINISHED:
                return None
            shards = self._insist(lambda: self._find_shards(link))
        start = self._newest_versions(shards)
        replica = self._replica(number, start)
        origin = self._heal_inner_state(peers)
        world = self.joining.ranks.world_size
        self._announce(replica, origin.model_copy(update={"seconds": time.monotonic() - began, "ranks": world}))
        return JoinedIncarnation(replica, start, shards)

    def _ticket(self, link: Link, abandoned: tuple[int, int] | None) -> tuple[int, Sequence[Peer]]:
        """A new incarnation's number and who trains now. Asks for as long as the syncer is away."""
        while True:
            number, peers = self._ask_to_join(link, abandoned) if self.joining.ranks.is_first else (FINISHED, ())
            number = self.agree.number(number)
            if number == STOPPED:
                raise Interrupted(f"{self.site.name}: stopped as asked")
            if number != AWAY:
                return number, peers

    def _ask_to_join(self, link: Link, abandoned: tuple[int, int] | None) -> tuple[int, Sequence[Peer]]:
        if self.stop.is_set:
            return STOPPED, ()
        request = JoinRequest(
            name=self.site.name,
            address=self.site.address,
            batch=self.batch,
            recipe=self.joining.identity.recipe,
            code=self.joining.identity.code,
            config=dict(self.joining.identity.config),
            manifest=self.joining.identity.manifest,
            abandoned=abandoned,
        )
        try:
            reply = link.ask(request, JoinReply)
        except Unreachable as error:
            self._say_why(error)
            return AWAY, ()
        return (FINISHED if reply.incarnation is None else reply.incarnation), reply.peers

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
        if self.site.shards:
            return [self.site.syncer, *self.site.shards]
        found = link.ask(ShardsRequest(), ShardsReply).shards
        return [self.site.syncer, *(reached(address, host) for address in found)]

    def _newest_versions(self, shards: Sequence[str]) -> Known:
        """Every fragment's newest version, the same one on every rank."""
        start: Known = {}
        count = len(self.fragments)
        wanted = list(range(count))
        with ExitStack() as stack:
            links = [Link(address, self.site.security, patience=JOIN_PATIENCE_S) for address in shards]
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
        is_sharded = any(isinstance(parameter, DTensor) for parameter in self.joining.model.parameters())
        return (self.joining.ranks.rank, self.joining.ranks.world_size) if is_sharded else (0, 1)

    def _replica(self, number: int, start: Known) -> Replica:
        joining, (rank, ranks) = self.joining, self._part
        parameters = {name: local_part(parameter) for name, parameter in self.joining.model.named_parameters()}
        held = [
            FragmentReplica(fragment, [parameters[name] for name in fragment.names], joining.precision)
            for fragment in self.fragments
        ]
        for fragment in held:
            fragment.adopt(*start[fragment.fragment.index])
        return Replica(number, held, joining.inner_steps, joining.precision, joining.total, rank, ranks)

    def _heal_inner_state(self, peers: Sequence[Peer]) -> Origin:
        """The moments of the freshest learner that answers, else of the newest checkpoint, else zero."""
        inner, ranks = self.joining.inner, self.joining.ranks
        for peer in peers[:PEERS_ASKED] if ranks.world_size == 1 else []:
            with suppress(TenfoldError):
                return from_peer(peer.address, self.site.security, inner.load)
        states = self.site.checkpoints
        for _ in range(CHECKPOINT_TRIES if states else 0):
            assert states is not None
            where = self.agree.text(newest_checkpoint(states) if ranks.is_first else "")
            origin = load_checkpoint(states, where, inner.tensors(), ranks) if where else None
            if self.agree.all(origin is not None):
                return origin or INITIAL
        inner.clear()
        return INITIAL

    def _announce(self, replica: Replica, origin: Origin) -> None:
        """Prove that every rank holds what was published; only then are there samples to train on."""
        digests = [bytearray.fromhex(digest_of_values(fragment.here())) for fragment in replica.fragments]
        of_ranks = self.agree.gathered(torch.stack([torch.frombuffer(each, dtype=torch.uint8) for each in digests]))
        held = {
            index: HeldFragment(
                version=fragment.version, digests=tuple(bytes(rank[index].tolist()).hex() for rank in of_ranks)
            )
            for index, fragment in enumerate(replica.fragments)
        }
        refused = ""
        if self.joining.ranks.is_first:
            refused = self._ask_to_train(HealedRequest(incarnation=replica.number, origin=origin, held=held))
        if refused := self.agree.text(refused):
            raise IncarnationEnded(replica, refused)

    def _ask_to_train(self, request: HealedRequest) -> str:
        """Why not; empty when the syncer agrees."""
        with closing(Link(self.site.syncer, self.site.security)) as link:
            try:
                self._insist(lambda: link.ask(request, Done))
                return ""
            except Refused as error:
                return str(error)


# The inner optimizer's state


def snapshot_of(replica: Replica) -> Snapshot:
    """What a state of this moment says about itself, so that the incarnation that goes on from it can be replayed."""
    return Snapshot(incarnation=replica.number, step=replica.step, history=tuple(replica.history))


def origin_from(header: Mapping[str, Any], kind: Literal["peer", "checkpoint"]) -> Origin:
    """The origin that the header of a state names. Raises Refused when it is none."""
    found = parse(Snapshot, header, f"inner state of a {kind}")
    return Origin(kind=kind, incarnation=found.incarnation, step=found.step, history=found.history)


class PeerService:
    """Answers a joining learner: the training thread takes a snapshot at its next step boundary and goes on."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._taken: Blob | None = None
        self._changed = threading.Condition()

    def serve(self, snapshot: Callable[[], tuple[Snapshot, dict[str, Tensor]]]) -> None:
        """Called by the training thread between steps: costs one copy when somebody asks, nothing otherwise."""
        if not self._wanted.is_set():
            return
        header, tensors = snapshot()
        data = save({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()})
        with self._changed:
            self._taken = Blob(header.to_json(), data)
            self._wanted.clear()
            self._changed.notify_all()

    def blob(self, key: str) -> Blob:
        """Give the inner state as it is at the end of the present step. Raises Refused when that takes too long."""
        if key != KEY:
            raise Refused(f"a learner gives {KEY!r} alone")
        with self._changed:
            self._taken = None
            self._wanted.set()
            self._changed.wait_for(lambda: self._taken is not None, SNAPSHOT_S)
            if self._taken is None:
                raise Refused("between steps for too long")
            return self._taken

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """A learner takes no orders over the wire."""
        raise Refused(f"a learner has no method {method[:40]!r}")

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """A learner takes no data from peers that it did not ask for."""
        raise Refused("a learner takes nothing")

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """Refuse: a learner takes no data from peers that it did not ask for."""
        raise Refused("a learner takes nothing")

    def rejected(self, reason: str) -> None:
        """Ignore what was refused: the asker has been told."""


def from_peer(address: str, security: Security, take: Callable[[Mapping[str, Tensor]], None]) -> Origin:
    """Take the state of a learner that trains. Raises TenfoldError when it does not answer or sends something else."""
    with closing(Link(address, security, streams=4, patience=PEER_PATIENCE_S)) as link:
        header, data = link.get(KEY)
    origin = origin_from(header, "peer")
    try:
        tensors = load(bytes(data))
    except SafetensorError as error:
        raise TenfoldError(f"inner state of {address}: cannot be read ({error})") from error
    take(tensors)
    return origin


def fill(into: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy all of them, or none. Raises TenfoldError when names, shapes or values are not what this model needs."""
    if tensors.keys() != into.keys():
        raise TenfoldError(f"inner state: has {len(tensors)} tensors, this model needs {len(into)}")
    for name, tensor in tensors.items():
        if tensor.shape != into[name].shape:
            raise TenfoldError(f"inner state: {name} has shape {list(tensor.shape)}, not {list(into[name].shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TenfoldError(f"inner state: {name} holds NaN or infinity")
    for name, tensor in tensors.items():
        into[name].copy_(tensor)


def newest_checkpoint(states: Path) -> str:
    """`LEARNER/STEP` of the newest whole checkpoint of any learner in this folder; empty when there is none."""
    found: list[tuple[int, str]] = []
    for folder in sorted(path for path in states.glob("*") if path.is_dir()):
        with Checkpointer(folder, keep_last=1) as checkpointer:
            newest = checkpointer.latest().checkpoint
        if newest:
            found.append((newest.manifest.next_sample, f"{folder.name}/{newest.step}"))
    return max(found, default=(0, ""))[1]


def load_checkpoint(states: Path, where: str, into: Mapping[str, Tensor], ranks: Ranks) -> Origin | None:
    """This rank's part of a checkpoint that was found; None when it is there no more or not of this model."""
    name, _, step = where.rpartition("/")
    with Checkpointer(states / name, keep_last=1, rank=ranks.rank, world_size=ranks.world_size) as checkpointer:
        found = checkpointer.at(int(step))
        if found is None:
            return None
        with suppress(TenfoldError):
            origin = origin_from(found.meta, "checkpoint")
            checkpointer.load(found, into)
            return origin
    return None
