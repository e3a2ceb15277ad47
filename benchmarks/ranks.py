"""Two ranks under DDP and FSDP2 against one, on the same text: the largest difference of loss over 200 steps.

python benchmarks/ranks.py [--steps 200]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tenfold.ledger import Ledger

CAMPAIGN = """
[data]
sources = [{{ kind = "files", paths = ["{text}/*.py"] }}]
holdouts = [{{ name = "iid", kind = "split", max_bytes = 20000 }}]
tokenizer = {{ vocab_size = 1024 }}
[model]
depth = 2
width = 64
context = 64
[train]
tokens = {tokens}
batch_tokens = 1024
compile = "off"
threads = 1
[train.optimizer]
kind = "{optimizer}"
[evaluate]
every = 1000000
"""


def losses(directory: Path, parallel: str, ranks: int) -> list[float]:
    """Train a copy of the campaign; its loss at every step."""
    copy = Path(shutil.copytree(directory, directory.with_name(f"{parallel}-{ranks}")))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "tenfold", "train", str(copy), "--set", f"train.parallel={parallel}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    ledger = Ledger(copy / "ledger.sqlite", read_only=True)
    found = [value for _, value in ledger.metric(1, "train/loss")]
    ledger.close()
    shutil.rmtree(copy)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    for optimizer in ("adamw", "muon"):
        with tempfile.TemporaryDirectory() as work:
            directory = Path(work) / "campaign"
            directory.mkdir()
            text = CAMPAIGN.format(
                text=sysconfig.get_path("stdlib"), tokens=arguments.steps * 1024, optimizer=optimizer
            )
            (directory / "campaign.toml").write_text(text)
            subprocess.run([sys.executable, "-m", "tenfold", "data", str(directory)], check=True, capture_output=True)
            one = losses(directory, "ddp", 1)
            for parallel in ("ddp", "fsdp"):
                two = losses(directory, parallel, 2)
                difference = max(abs(a - b) for a, b in zip(one, two, strict=True))
                print(
                    json.dumps(
                        {
                            "optimizer": optimizer,
                            "parallel": parallel,
                            "steps": len(two),
                            "largest_difference_in_loss": difference,
                            "last_loss": [one[-1], two[-1]],
                        }
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    main()
