"""A run of two ranks of which the first asks to go back, run by test_rewind.py: `rewound_ranks.py FOLDER WAY`."""

import json
import sys
from pathlib import Path

from tenfold.config import load_campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.learner import build_learner
from tenfold.train.loop import Loop
from tenfold.train.observe import Observer
from tenfold.train.ranks import joined_ranks
from tests.train.test_rewind import GoBack, Skip


def main(folder: Path, way: str) -> None:
    campaign, files = load_campaign(folder), CampaignFiles(folder)
    with joined_ranks("cpu") as ranks:
        learner = build_learner(campaign, files.data, Manifest.load(files.data), ranks)
        observers: list[Observer] = [GoBack(at=15, to=12)] if way == "rewound" and ranks.is_first else []
        with Checkpointer(
            files.directory / "checkpoints", keep_last=3, rank=ranks.rank, world_size=ranks.world_size
        ) as checkpointer:
            result = (Loop if way == "rewound" else Skip)(learner, checkpointer, observers).run()
        if ranks.is_first:
            (folder / "digest.json").write_text(json.dumps(result.weights_digest))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
