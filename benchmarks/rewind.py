"""Rewind and skip on a poisoned stretch of data: the end of the run beside a clean one and one that goes on regardless.

    python benchmarks/rewind.py [--seeds 1 2 3] [--steps 1600] [--json FILE]

A stretch of batches is noise: tokens drawn evenly from the vocabulary. Three runs of each seed differ in nothing else:
clean, poisoned, and poisoned with an action that may rewind when the loss spikes or the data look odd. Reported is the
mean loss, in nats a token, of the final weights on the same sequences that none of them trained on.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, ProgressLines, RunConsole, run_console
from tenfold.data import Manifest, Stream, build_corpus
from tenfold.ledger import Ledger, RunRewound
from tenfold.monitor import watched
from tenfold.train import Checkpointer, Learner, Loop, Ranks, build_learner, choose_device, journal_of

STRETCH = 24
"""Batches of noise."""
JUDGED = 256
"""Sequences that the final weights are judged on, far behind those of the run."""
RULE = {"on": ["loss-spike", "data-anomaly", "divergence", "gradient-explosion"], "do": "rewind", "most": 5}


class Noisy(Stream):
    """A stream of which some samples are noise, always the same."""

    bad: range
    vocabulary: int

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        tokens = super().take(numbers)
        for row, number in zip(tokens, numbers.tolist(), strict=True):
            if number in self.bad:
                row[:] = np.random.default_rng(number).integers(0, self.vocabulary, row.size)
        return tokens


def campaign_of(seed: int, steps: int, *, rewind: bool) -> Campaign:
    """Text of the standard library and a small model."""
    library = Path(os.__file__).parent
    sources = [{"kind": "files", "paths": [str(library / name) for name in ("asyncio", "email", "unittest", "json")]}]
    values: dict[str, Any] = {
        "name": "rewind",
        "seed": seed,
        "data": {"sources": sources, "tokenizer": {"vocab_size": 1024}, "holdouts": []},
        "model": {"depth": 2, "width": 64, "head_dim": 16, "context": 64},
        "train": {"tokens": 1024 * steps, "batch_tokens": 1024, "threads": 1, "compile": "off", "device": "cpu"},
        "checkpoint": {"every": 50, "keep_last": 6},
        "watch": {"actions": [RULE] if rewind else []},
    }
    return Campaign.model_validate(values)


@contextmanager
def quiet() -> Iterator[RunConsole]:
    with run_console(enabled=False) as console:
        yield console


def train(
    folder: Path, data: CampaignFiles, campaign: Campaign, bad: range
) -> tuple[float, list[RunRewound], list[str]]:
    """Loss of the final weights, how the run went back, and the kinds of its incidents."""
    manifest = Manifest.load(data.data)
    learner = build_learner(campaign, data.data, manifest, Ranks(0, 1, choose_device("cpu")))
    noisy = Noisy(data.data, manifest, campaign.seed, learner.plan.context)
    noisy.bad = range(bad.start * learner.plan.sequences, bad.stop * learner.plan.sequences)
    noisy.vocabulary = manifest.vocab_size
    learner.stream = noisy
    folder.mkdir()
    (folder / "data").symlink_to(data.data)
    files = CampaignFiles(folder)
    with (
        quiet() as console,
        Checkpointer(folder / "checkpoints", keep_last=campaign.checkpoint.keep_last) as checkpointer,
        journal_of(learner, files) as journal,
    ):
        Loop(learner, checkpointer, watched(learner, journal, files, console, [journal])).run()
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        rewound = [payload for event in ledger.events() if isinstance(payload := event.payload, RunRewound)]
        incidents = [incident.kind for incident in ledger.incidents()]
    return judged(learner), rewound, incidents


@torch.no_grad()
def judged(learner: Learner) -> float:
    """Mean loss in nats a token on sequences behind those of the run."""
    first = (learner.plan.steps + 1000) * learner.plan.sequences
    tokens = torch.from_numpy(learner.stream.batch(first, JUDGED).astype(np.int64))
    return float(learner.model(tokens).nats)


def main() -> None:
    """Prints a line for each seed and the whole."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        bad = range(arguments.steps * 6 // 10, arguments.steps * 6 // 10 + STRETCH)
        with tempfile.TemporaryDirectory() as place:
            folder, clean = Path(place), campaign_of(seed, arguments.steps, rewind=False)
            data = CampaignFiles(folder / "corpus")
            data.directory.mkdir()
            with quiet() as console:
                build_corpus(clean.data, seed, data.data, data.directory, ProgressLines(console))
            base, _, false = train(folder / "clean", data, clean, range(0))
            regardless, _, _ = train(folder / "regardless", data, clean, bad)
            acting = campaign_of(seed, arguments.steps, rewind=True)
            rewound, events, _ = train(folder / "rewound", data, acting, bad)
        found = {
            "seed": seed,
            "clean": base,
            "regardless": regardless,
            "rewound": rewound,
            "times": len(events),
            "false": false,
        }
        results.append(found)
        ways = ", ".join(f"{event.step} to {event.to_step}" for event in events)
        print(
            f"seed {seed}: clean {base:.4f}, regardless {regardless / base - 1:+.2%}, "
            f"rewound {rewound / base - 1:+.2%} in {len(events)} rewinds ({ways}); incidents of "
            f"the clean run: {', '.join(false) or 'none'}",
            flush=True,
        )
    for way in ("regardless", "rewound"):
        ratios = [found[way] / found["clean"] - 1 for found in results]
        print(f"{way}: mean {statistics.mean(ratios):+.2%}, worst {max(ratios):+.2%}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
