"""The inner optimizer's state as it is given, taken and found on disk, and what is not one."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tenfold.core.errors import TenfoldError
from tenfold.learners.learner.joining import PeerService, fill, from_peer, load_checkpoint, newest_checkpoint
from tenfold.learners.messages import Contributed, Merged, Origin, Refused, Snapshot
from tenfold.learners.wire import Blob, BlobServer, Link, Security
from tenfold.train.checkpoint import Checkpointer, CheckpointState
from tenfold.train.ranks import Ranks, choose_device

SECURITY = Security("secret")
HISTORY = (Merged(3, 0, 1), Contributed(4, 1, 0, 2))


@contextmanager
def training(peers: PeerService, tensors: dict[str, torch.Tensor]) -> Iterator[None]:
    """A thread that comes to the end of a step again and again."""
    stopping = threading.Event()

    def steps() -> None:
        while not stopping.wait(0.01):
            peers.serve(lambda: (Snapshot(incarnation=3, step=9, history=HISTORY), tensors))

    thread = threading.Thread(target=steps)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def test_a_learner_that_trains_gives_its_state_with_what_replay_must_know() -> None:
    peers, mine, theirs = PeerService(), {"a": torch.zeros(4)}, {"a": torch.arange(4.0)}
    with closing(BlobServer(peers, SECURITY)) as server, training(peers, theirs):
        origin = from_peer(server.address, SECURITY, partial(fill, mine))
        with closing(Link(server.address, SECURITY, patience=5.0)) as link:
            with pytest.raises(Refused, match="a learner has no method 'join'"):
                link.call("join", {})
            with pytest.raises(Refused, match="a learner takes nothing"):
                link.put("k", {}, b"a")
            with pytest.raises(Refused, match="a learner gives 'inner-state' alone"):
                link.get("weights")
    assert torch.equal(mine["a"], theirs["a"])
    assert origin == Origin(kind="peer", incarnation=3, step=9, history=HISTORY)


class Stranger(PeerService):
    """Says that it trains, and gives what it likes."""

    def __init__(self, header: dict[str, object], data: bytes) -> None:
        super().__init__()
        self.given = Blob(header, data)

    def blob(self, key: str) -> Blob:
        return self.given


SNAPSHOT = {"life": 1, "step": 2, "history": []}


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (SNAPSHOT, b"no tensors", "cannot be read"),
        (SNAPSHOT, save({"b": torch.zeros(4)}), "has 1 tensors|this model needs"),
        (SNAPSHOT, save({"a": torch.zeros(5)}), "a has shape .5., not .4."),
        (SNAPSHOT, save({"a": torch.full((4,), torch.nan)}), "a holds NaN or infinity"),
        ({**SNAPSHOT, "step": -1}, save({"a": torch.ones(4)}), "malformed message .step"),
        ({**SNAPSHOT, "history": [[1]]}, save({"a": torch.ones(4)}), "malformed message .history"),
        ({}, save({"a": torch.ones(4)}), "malformed message .life: Field required"),
    ],
)
def test_what_is_no_state_of_this_model_is_not_taken(header: dict[str, object], data: bytes, said: str) -> None:
    mine = {"a": torch.full((4,), 7.0)}
    with closing(BlobServer(Stranger(header, data), SECURITY)) as server, pytest.raises(TenfoldError, match=said):
        from_peer(server.address, SECURITY, partial(fill, mine))
    assert mine["a"].tolist() == [7.0] * 4


def test_all_tensors_are_filled_or_none() -> None:
    into = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(TenfoldError, match="b has shape"):
        fill(into, {"a": torch.ones(2), "b": torch.ones(3)})
    assert into["a"].tolist() == [0.0, 0.0]


def test_the_newest_checkpoint_of_any_learner_is_found_and_one_that_is_none_is_passed_over(tmp_path: Path) -> None:
    alone = Ranks(0, 1, choose_device("cpu"))
    assert newest_checkpoint(tmp_path) == ""
    for name, step, meta in (("learner-0", 5, SNAPSHOT), ("learner-1", 8, {**SNAPSHOT, "history": "?"})):
        with Checkpointer(tmp_path / name, keep_last=2) as checkpointer:
            checkpointer.prepare()
            checkpointer.save(CheckpointState({"a": torch.full((4,), float(step))}, step, 8 * step, meta))
            checkpointer.wait()
    into = {"a": torch.zeros(4)}
    assert newest_checkpoint(tmp_path) == "learner-1/8"
    assert load_checkpoint(tmp_path, "learner-1/8", into, alone) is None
    assert load_checkpoint(tmp_path, "learner-0/6", into, alone) is None
    assert into["a"].tolist() == [0.0] * 4
    assert load_checkpoint(tmp_path, "learner-0/5", into, alone) == Origin(kind="checkpoint", incarnation=1, step=2)
    assert into["a"].tolist() == [5.0] * 4
