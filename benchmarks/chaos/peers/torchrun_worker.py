"""One rank of plain DDP over gloo. Started by torchrun, which torchrun_peer.py starts."""

import argparse
import os
from pathlib import Path

import torch.distributed as dist
from lines import Branch, Line, now, write
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
from tenfold.train.ranks import Ranks, joined_ranks
from tenfold.train.step import train_step


def resume(learner: Learner, checkpointer: Checkpointer, ranks: Ranks) -> tuple[int, tuple[Branch, ...]]:
    """All ranks load what is newest; the first one says where that was and draws the branch."""
    step, lineage = load_latest(learner, checkpointer)
    agreed = [(step, new_branch(lineage, step))]
    dist.broadcast_object_list(agreed)
    if agreed[0][0] != step:
        raise RuntimeError(f"rank {ranks.rank} loaded step {step}, the first rank {agreed[0][0]}")
    return agreed[0]


def train(learner: Learner, checkpointer: Checkpointer, ranks: Ranks, path: Path) -> None:
    """Until killed."""
    step, lineage = resume(learner, checkpointer, ranks)
    while True:
        batch = share_of_step(learner, step, ranks.rank, ranks.world_size)
        nats = train_step(learner, batch, rate_factor(learner, step))[0].item()
        step += 1
        tokens = sum(tokens[:, 1:].numel() for tokens in batch)
        write(path, Line(now(), os.getpid(), step, tokens, nats, lineage))
        if ranks.is_first and step % CHECKPOINT_EVERY == 0:
            save(learner, checkpointer, step, lineage)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    place = parser.parse_args()
    path = place.folder / f"worker-{os.environ['RANK']}.jsonl"
    begin(path)
    with joined_ranks("cpu") as ranks, checkpointer_in(place.folder) as checkpointer:
        train(build(place.campaign, ranks), checkpointer, ranks, path)


if __name__ == "__main__":
    main()
