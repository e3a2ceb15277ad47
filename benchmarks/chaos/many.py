"""Many short runs under every kind of fault, each checked by check_log.py and executed again from its merge log.

    python benchmarks/chaos/many.py [--runs 20] [--seed 0] [--replay]

Two learners, two shards of the syncer, a small model; per run several faults drawn from kill, stop, hang, slow,
partition, delay, loss, corrupt and nan, of learners and syncer alike. One line a run, and at the
end how many were right.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from run import DATA, events_of, tenfold, train

CAMPAIGN = (
    'name = "many"'
    + DATA
    + """[model]
depth = 2
width = 32
head_dim = 16
context = 64
[train]
tokens = {tokens}
batch_tokens = 512
compile = "off"
threads = 1
[checkpoint]
every = 50
[ladder]
sizes = 0
[learners]
count = 2
syncer_shards = 2
fragments = 3
stalled_after = 1.5
crash_limit = 50
[chaos]
per_hour = {rate}
seconds = 3
kinds = ["kill", "stop", "hang", "slow", "partition", "delay", "loss", "corrupt", "nan"]
seed = {seed}
"""
)
CHECK = Path(__file__).with_name("check_log.py")


def main() -> None:
    """Exit status 1 when a run was not right."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first run's faults; the next have the next ones")
    parser.add_argument("--tokens", type=int, default=256_000)
    parser.add_argument("--faults-per-hour", type=float, default=1500.0)
    parser.add_argument("--replay", action="store_true")
    arguments = parser.parse_args()
    right = 0
    with tempfile.TemporaryDirectory(prefix="many-") as folder:
        corpus: Path | None = None
        for seed in range(arguments.seed, arguments.seed + arguments.runs):
            campaign = Path(folder) / f"run-{seed}"
            campaign.mkdir()
            toml = CAMPAIGN.format(tokens=arguments.tokens, rate=arguments.faults_per_hour, seed=seed)
            (campaign / "campaign.toml").write_text(toml)
            if corpus is None:
                tenfold("data", campaign)
                corpus = Path(shutil.copytree(campaign / "data", Path(folder) / "corpus"))
            elif not (campaign / "data").exists():
                shutil.copytree(corpus, campaign / "data")
            right += judged(campaign, seed, replay=arguments.replay)
            shutil.rmtree(campaign)
    print(json.dumps({"runs": arguments.runs, "right": right}))
    sys.exit(right < arguments.runs)


def judged(campaign: Path, seed: int, *, replay: bool) -> bool:
    """Train, check, replay; says how it went."""
    train(campaign)
    faults = sum(event.kind == "chaos" for event in events_of(campaign))
    command = [sys.executable, str(CHECK), str(campaign / "learners")]
    check = subprocess.run(command, check=False, capture_output=True, text=True)
    said = check.stdout.strip() or check.stderr.strip()
    same = ""
    if replay:
        tenfold("train", campaign, "--replay")
        same = ", the same weights again from the merge log"
    print(f"seed {seed}: {faults} faults, {said}{same}", flush=True)
    return check.returncode == 0


if __name__ == "__main__":
    main()
