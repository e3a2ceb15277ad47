"""A run of two ranks whose observers fail, run by test_observe.py: `observed_ranks.py FOLDER ENDING`."""

import sys
from pathlib import Path

from tenfold.config import load_campaign
from tenfold.core.errors import NotFinite
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.journal import journal_of
from tenfold.train.learner import build_learner
from tenfold.train.loop import Loop
from tenfold.train.observe import Observer, Stopping
from tenfold.train.ranks import joined_ranks


class Failing(Observer):
    """Fails on one rank at one step."""

    def __init__(self, *, here: bool, at: int) -> None:
        self.here, self.at = here, at

    def after_step(self, measure) -> None:
        if self.here and measure.step == self.at:
            raise ZeroDivisionError("a bug")


class FailingAtTheEnd(Observer):
    def __init__(self, *, here: bool) -> None:
        self.here = here

    def stopping(self, stopping: Stopping) -> None:
        if self.here:
            raise ZeroDivisionError("too late")


class Poison(Observer):
    """Makes all gradients NaN at one step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_step(self, batch) -> None:
        self.now = batch.step + 1 == self.at

    def gradients_ready(self, state) -> None:
        for parameter in state.root.parameters():
            if self.now:
                parameter.grad.fill_(float("nan"))


def main() -> None:
    directory, ending = Path(sys.argv[1]), sys.argv[2]
    campaign, files = load_campaign(directory, ("checkpoint.every=10",)), CampaignFiles(directory)
    with joined_ranks("cpu") as ranks:
        learner = build_learner(campaign, files.data, Manifest.load(files.data), ranks)
        second = ranks.rank == 1
        observers = [Failing(here=second, at=13), FailingAtTheEnd(here=second)]
        observers += [Poison(15)] if ending == "not-finite" else []
        rank = {"rank": ranks.rank, "world_size": ranks.world_size}
        with (
            Checkpointer(directory / "checkpoints", keep_last=2, **rank) as saves,
            journal_of(learner, files) as journal,
        ):
            try:
                print(Loop(learner, saves, [journal, *observers]).run().weights_digest, flush=True)
            except NotFinite as error:
                print(error, flush=True)


if __name__ == "__main__":
    main()
