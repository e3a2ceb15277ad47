"""One replica group of torchft, of one process. Started by torchft_peer.py, which says how to install torchft.

The loop is that of torchft's train_ddp.py: quorum, forward, backward with a fault-tolerant all-reduce, commit or
discard. `CommitOptimizers` makes the calls of torchft's OptimizerWrapper, which wraps one torch optimizer where tenfold
has two. A replica takes the share of the batch that its number says; the share of one that is away is trained on by
nobody, as torchft's own DistributedSampler has it.
"""

import argparse
import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from lines import Branch, Line, now, write
from torch import Tensor
from torch.distributed import TCPStore
from torchft import DistributedDataParallel, Manager, ProcessGroupGloo
from training import (
    CHECKPOINT_EVERY,
    begin,
    build,
    checkpointer_in,
    load_latest,
    new_branch,
    rate_factor,
    save,
    share_of_step,
)

from tenfold.train.checkpoint import Checkpointer
from tenfold.train.learner import Learner
from tenfold.train.optimizers import Optimizers
from tenfold.train.ranks import Ranks
from tenfold.train.step import TrainState, train_step


class CommitOptimizers:
    """tenfold's optimizers, stepped only if the replicas commit."""

    def __init__(self, manager: Manager, learner: Learner) -> None:
        self._manager, self._learner = manager, learner
        self.committed = False

    def step(self, _: float, finite: Tensor) -> None:
        """Ask whether to commit; a replica that heals gets its weights here, and learns only now which step it is."""
        self.committed = self._manager.should_commit()
        if self.committed:
            self._learner.optimizers.step(rate_factor(self._learner, self._manager.current_step() - 1), finite)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self._learner.optimizers.zero_grad()


class State:
    """What a healing replica takes over from another: weights, moments, and where they come from."""

    def __init__(self, learner: Learner, lineage: tuple[Branch, ...]) -> None:
        self._learner, self.lineage = learner, lineage

    def give(self) -> dict[str, Any]:
        """For torchft's transport."""
        return {"tensors": self._learner.state_tensors(), "lineage": list(self.lineage)}

    @torch.no_grad()
    def take(self, given: dict[str, Any]) -> None:
        """Overwrite ours in place."""
        for name, tensor in self._learner.state_tensors().items():
            tensor.copy_(given["tensors"][name])
        self.lineage = tuple((name, step) for name, step in given["lineage"])


def train(
    learner: Learner, manager: Manager, state: State, checkpointer: Checkpointer, place: argparse.Namespace
) -> None:
    """Until killed."""
    optimizers = CommitOptimizers(manager, learner)
    model = DistributedDataParallel(manager, learner.model)
    trained = TrainState(model, cast(Optimizers, optimizers), learner.train, learner.ranks)
    path = place.folder / f"worker-{place.replica}.jsonl"
    while True:
        manager.start_quorum()
        batch = share_of_step(learner, manager.current_step(), place.replica, place.replicas)
        nats = train_step(trained, batch, 1.0)[0].item()
        if not optimizers.committed:
            continue
        took_part = manager.is_participating()
        tokens = sum(tokens[:, 1:].numel() for tokens in batch) if took_part else 0
        step = manager.current_step()
        write(path, Line(now(), os.getpid(), step, tokens, nats, state.lineage))
        if took_part and manager.participating_rank() == 0 and step % CHECKPOINT_EVERY == 0:
            save(learner, checkpointer, step, state.lineage)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--replica", type=int, required=True)
    parser.add_argument("--replicas", type=int, required=True)
    parser.add_argument("--collective-timeout", type=float, required=True)
    parser.add_argument("--manager-timeout", type=float, required=True)
    place = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    begin(place.folder / f"worker-{place.replica}.jsonl")
    learner = build(place.campaign, Ranks(0, 1, torch.device("cpu"), place.replicas))
    with checkpointer_in(place.folder) as checkpointer:
        step, lineage = load_latest(learner, checkpointer)
        state = State(learner, new_branch(lineage, step))
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        manager = Manager(
            pg=ProcessGroupGloo(timeout=timedelta(seconds=place.collective_timeout)),
            load_state_dict=state.take,
            state_dict=state.give,
            min_replica_size=1,
            timeout=timedelta(seconds=place.manager_timeout),
            replica_id=f"replica_{place.replica}",
            rank=0,
            world_size=1,
            store_addr="127.0.0.1",
            store_port=store.port,
            hostname="127.0.0.1",
        )
        manager.load_state_dict({"step": step, "batches_committed": step * place.replicas})
        train(learner, manager, state, checkpointer, place)


if __name__ == "__main__":
    main()
