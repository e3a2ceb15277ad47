"""torchrun under faults: plain DDP over gloo, restarted as a whole from its last checkpoint.

    python benchmarks/chaos/peers/torchrun_peer.py CAMPAIGN --replicas 4 --seconds 90 --faults faults.json --out o.json

Needs nothing besides tenfold: torchrun comes with torch (`pip install -e .`). CAMPAIGN is a directory whose corpus is
built (`tenfold init CAMPAIGN --example quickstart`, `tenfold data CAMPAIGN`). Figures and their definitions: trial.py.

One torchrun on one node with a process a replica. When a process dies its agent, which looks every 0.1 s (the default),
kills the others and starts all anew, from the last checkpoint; one is written every 50 steps, in the background. gloo's
timeout is torch's default, 30 minutes: nothing of torchrun's own notices a process that hangs within the 30 s after
which the supervisor kills it.

TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each restart a store of its own. Without it torch 2.13's agent hands the same
one to all, in which ranks may find the gloo addresses of the run before ("Connection refused"): with four replicas a
trial whose first fault was a kill failed at every restart until its end, twice in two trials.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from supervisor import Process, free_port
from training import CHECKPOINT_EVERY
from trial import Peer, parser_of, run

WORKER = Path(__file__).with_name("torchrun_worker.py")
MAX_RESTARTS = 1_000_000


def launch(folder: Path, arguments: argparse.Namespace) -> list[Process]:
    """One agent, which starts the ranks."""
    command = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=1",
        f"--nproc-per-node={arguments.replicas}",
        f"--max-restarts={MAX_RESTARTS}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        str(WORKER),
        str(arguments.campaign),
        f"--folder={folder}",
    )
    return [Process("torchrun", command, {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})]


def peer_of(arguments: argparse.Namespace) -> Peer:
    """torchrun as it comes."""
    settings = {"version": torch.__version__, "algorithm": "ddp", "checkpoint_every": CHECKPOINT_EVERY}
    return Peer("torchrun", settings, partial(launch, arguments=arguments))


def main() -> None:
    run(parser_of(__doc__).parse_args(), peer_of)


if __name__ == "__main__":
    main()
