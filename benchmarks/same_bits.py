"""Same bits: the weights digests of fixed campaigns, as JSON, so that two versions can be compared on one machine.

    python benchmarks/same_bits.py DIR [--corpus CAMPAIGN] [--replay CAMPAIGN] [--only plain,fsdp] [--json FILE]

Trains each campaign of CAMPAIGNS in a folder of DIR, which must be new, with the tenfold that is importable. Without
--corpus the corpus is built first, from about 620 kB of the standard library. tenfold keeps its own source out of every
corpus, so another version may build another one; --corpus takes the corpus of a campaign made by the other version
instead (its `corpus` digest tells whether they are the same).

What several learners end in depends on which of their contributions meet. `learners` therefore trains four of them and
replays the merge log; `same` says whether the replay ended in the weights that training ended in. To compare two
versions, give the other version's folder, finished, with --replay: a copy of it is replayed, and nothing is trained.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

PACKAGES = ("email", "http", "json")

CAMPAIGN = """
[data]
sources = [{{ kind = "files", paths = ["texts"] }}]
holdouts = [{{ name = "iid", kind = "split", fraction = 0.05, max_bytes = 20000 }}]
tokenizer = {{ vocab_size = 1024 }}
[model]
depth = 2
width = 64
head_dim = 16
context = 64
[train]
tokens = 327680
batch_tokens = 2048
micro_batch = 8
precision = "{precision}"
parallel = "{parallel}"
compile = "off"
device = "cpu"
threads = 1
[train.optimizer]
kind = "{optimizer}"
z_loss = 0.0001
[checkpoint]
every = 50
[evaluate]
every = 50
"""

DEFAULTS = {"precision": "float32", "parallel": "ddp", "optimizer": "muon"}

# 160 steps of 4 micro-batches, clipped, with z-loss, over a little more than one epoch; under FSDP two ranks of 2.
CAMPAIGNS: dict[str, dict[str, str]] = {
    "plain": {},
    "plain-adamw-bf16": {"optimizer": "adamw", "precision": "bf16"},
    "fsdp": {"parallel": "fsdp"},
    "learners": {},
}

LEARNERS = "[learners]\ncount = 4"

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def run_tenfold(*words: str, launcher: tuple[str, ...] = ()) -> str:
    """Standard output of a tenfold command. Exits with the end of its errors when it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "tenfold", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tenfold {' '.join(words)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def build_corpus(directory: Path) -> Path:
    """A campaign of which only the corpus is made."""
    texts = directory / "texts"
    texts.mkdir(parents=True)
    for package in PACKAGES:
        for path in sorted((Path(sysconfig.get_path("stdlib")) / package).glob("*.py")):
            shutil.copyfile(path, texts / f"{package}-{path.name}")
    (directory / "campaign.toml").write_text(CAMPAIGN.format(**DEFAULTS))
    run_tenfold("data", str(directory))
    return directory


def train(name: str, directory: Path, corpus: Path, learners: str) -> dict[str, Any]:
    """Train the campaign `name` on a copy of the corpus. `learners` is the section that asks for four of them."""
    for part in ("texts", "data"):
        shutil.copytree(corpus / part, directory / part)
    several = f"{learners}\n" if name == "learners" else ""
    (directory / "campaign.toml").write_text(CAMPAIGN.format(**DEFAULTS | CAMPAIGNS[name]) + several)
    run_tenfold("train", str(directory), launcher=TORCHRUN if name == "fsdp" else ())
    trained = json.loads((directory / "train.json").read_text())
    found = {"weights_digest": trained["weights_digest"], "corpus": trained["identity"]["manifest"]}
    return found | ({"replay": replay(directory)} if several else {})


def replay(directory: Path) -> dict[str, Any]:
    """What `tenfold train --replay` says of a finished run of several learners: digest, whether it is the same."""
    replayed: dict[str, Any] = json.loads(run_tenfold("train", str(directory), "--replay", "--json"))
    return replayed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--corpus", type=Path, help="campaign whose corpus is taken; default: one is built")
    parser.add_argument("--replay", type=Path, help="finished campaign of several learners; a copy of it is replayed")
    parser.add_argument("--only", help="which of the campaigns, with commas between")
    parser.add_argument("--learners", default=LEARNERS, help="section that asks for four learners")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    default = [name for name in CAMPAIGNS if name != "learners" or not arguments.replay]
    names = arguments.only.split(",") if arguments.only else default
    if unknown := set(names) - set(CAMPAIGNS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(CAMPAIGNS)}")
    arguments.directory.mkdir(parents=True)
    corpus = arguments.corpus or build_corpus(arguments.directory / "corpus")
    found = {
        name: train(name, arguments.directory / name, corpus, arguments.learners)
        for name in track(names, "training", console=Console(stderr=True), transient=True)
    }
    if arguments.replay:
        found["replay"] = replay(Path(shutil.copytree(arguments.replay, arguments.directory / "replay")))
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
