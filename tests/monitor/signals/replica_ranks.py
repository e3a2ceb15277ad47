"""A run of two ranks, one of which flips a bit of its weights; test_assembly.py runs `replica_ranks.py FOLDER`."""

import sys
from pathlib import Path

import torch

from tenfold.config import load_campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.monitor.signals.digests import ReplicaDigest
from tenfold.train import Batch, Checkpointer, Loop, Observer, build_learner, joined_ranks, journal_of


class Flip(Observer):
    """Flips the lowest bit of one weight before one step."""

    def __init__(self, parameter: torch.nn.Parameter, at: int) -> None:
        self.parameter, self.at = parameter, at

    def before_step(self, batch: Batch) -> None:
        if batch.step == self.at:
            self.parameter.detach().view(torch.int32)[0, 0] ^= 1


def main(folder: Path) -> None:
    campaign, files = load_campaign(folder), CampaignFiles(folder)
    with joined_ranks("cpu") as ranks:
        learner = build_learner(campaign, files.data, Manifest.load(files.data), ranks)
        flip = [Flip(learner.model.embedding.weight, 14)] if ranks.rank == 1 else []
        store = folder / "checkpoints"
        with (
            Checkpointer(store, keep_last=2, rank=ranks.rank, world_size=ranks.world_size) as checkpointer,
            journal_of(learner, files) as journal,
        ):
            Loop(learner, checkpointer, [journal, ReplicaDigest(learner.model), *flip]).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
