"""The inner optimizer's state: given to a learner that joins, taken from one that trains, or from a checkpoint."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tenfold.core.errors import TenfoldError
from tenfold.learners.learner.replica import Replica
from tenfold.learners.messages import History, history_from, history_to_json
from tenfold.learners.wire import Blob, Link, Refused, Security
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.ranks import Ranks

KEY = "inner-state"
SNAPSHOT_S = 5.0  # a peer that does not reach its next step within this cannot help
PEER_PATIENCE_S = 1.5  # without a byte; more peers may have died just now


@dataclass(frozen=True)
class InnerStateOrigin:
    """Where a life's inner state comes from: after `step` steps of another life (None: the initial state).

    `history`: merges and contributions of that life that the syncer may not know.
    """

    kind: str
    life: int | None = None
    step: int = 0
    history: History = ()

    def to_dict(self, seconds: float, ranks: int) -> dict[str, Any]:
        """For the log: with the seconds that healing took, and the ranks of the life that begins."""
        return {
            "kind": self.kind,
            "life": self.life,
            "step": self.step,
            "history": history_to_json(self.history),
            "seconds": seconds,
            "ranks": ranks,
        }


INITIAL = InnerStateOrigin("initial")


def origin_header(life: Replica) -> dict[str, Any]:
    """What a snapshot says about itself, so that the life that goes on from it can be replayed."""
    return {"life": life.number, "step": life.step, "history": history_to_json(life.history)}


def origin_from(header: Mapping[str, Any], kind: str) -> InnerStateOrigin:
    """The origin that a snapshot's header names."""
    return InnerStateOrigin(kind, int(header["life"]), int(header["step"]), history_from(header["history"]))


class PeerService:
    """Answers a joining learner: the training thread takes a snapshot at its next step boundary and goes on."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._taken: Blob | None = None
        self._changed = threading.Condition()

    def serve(self, snapshot: Callable[[], tuple[dict[str, Any], dict[str, Tensor]]]) -> None:
        """Called by the training thread between steps: costs one copy when somebody asks, nothing otherwise."""
        if not self._wanted.is_set():
            return
        header, tensors = snapshot()
        data = save({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()})
        with self._changed:
            self._taken = Blob(header, data)
            self._wanted.clear()
            self._changed.notify_all()

    def blob(self, key: str) -> Blob:
        """The wire's request."""
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
        """As `admit`."""
        raise Refused("a learner takes nothing")

    def rejected(self, reason: str) -> None:
        """Nothing to be told."""


def from_peer(address: str, security: Security, into: Mapping[str, Tensor]) -> InnerStateOrigin:
    """Take the state of a learner that trains. Raises TenfoldError when it does not answer or sends something else."""
    link = Link(address, security, streams=4, patience=PEER_PATIENCE_S)
    try:
        header, data = link.get(KEY)
    finally:
        link.close()
    fill(into, load(bytes(data)))
    return origin_from(header, "peer")


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


def load_checkpoint(states: Path, where: str, into: Mapping[str, Tensor], ranks: Ranks) -> InnerStateOrigin | None:
    """This rank's part of a checkpoint that was found; None when it is there no more or not of this model."""
    name, _, step = where.rpartition("/")
    with Checkpointer(states / name, keep_last=1, rank=ranks.rank, world_size=ranks.world_size) as checkpointer:
        found = checkpointer.at(int(step))
        if found is None:
            return None
        with suppress(TenfoldError):
            checkpointer.load(found, into)
            return origin_from(found.meta, "checkpoint")
    return None
