"""torchft under faults: fault-tolerant DDP of torchft training tenfold's model on tenfold's data.

    python benchmarks/chaos/peers/torchft_peer.py CAMPAIGN --replicas 4 --seconds 90 --faults faults.json --out out.json

Install it in an environment of its own, torch first so that nothing pulls another one:

    python3 -m venv VENV
    VENV/bin/pip install torch==2.13.0
    VENV/bin/pip install torchft-nightly==2026.10.26
    VENV/bin/pip install -e .

and run this script with VENV/bin/python. CAMPAIGN is a directory whose corpus is built (`tenfold init CAMPAIGN
--example quickstart`, `tenfold data CAMPAIGN`). Figures and their definitions: trial.py.

One lighthouse and as many replica groups of one process as there are replicas. Each group is started as a plain process
with a TCPStore of its own instead of by a torchrun of its own, which saves it the start of an agent; one that ends is
started again at once, as torchx or Slurm would requeue it. The first replica of the quorum checkpoints every 50 steps,
for the case that all are gone; otherwise a new replica heals from a live one over torchft's default transport (HTTP).

Timeouts are those of torchft's README and train_ddp.py (lighthouse: stragglers are waited for 10 s, a replica is dead
5 s after its last heartbeat; gloo: 5 s; manager: 30 s), its quorum timeout its default (60 s); the quorum is
asynchronous, the default, and one replica suffices for it, as in the example. The options change the first four.
"""

import argparse
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from supervisor import Process, free_port
from training import CHECKPOINT_EVERY
from trial import Peer, parser_of, run

from tenfold.core.errors import InputError

LIGHTHOUSE = Path(sys.executable).with_name("torchft_lighthouse")
WORKER = Path(__file__).with_name("torchft_worker.py")
QUORUM_TICK_MS = 100


def installed_version() -> str:
    """Raises InputError when torchft is not there."""
    try:
        return version("torchft-nightly")
    except PackageNotFoundError:
        raise InputError(
            f"{sys.executable} has no torchft-nightly; see the docstring of {Path(__file__).name}"
        ) from None


def launch(folder: Path, arguments: argparse.Namespace) -> list[Process]:
    """The lighthouse and the replicas."""
    port = free_port()
    lighthouse = (
        str(LIGHTHOUSE),
        f"--bind=127.0.0.1:{port}",
        "--min_replicas=1",
        f"--quorum_tick_ms={QUORUM_TICK_MS}",
        f"--join_timeout_ms={round(arguments.join_timeout * 1000)}",
        f"--heartbeat_timeout_ms={round(arguments.heartbeat_timeout * 1000)}",
    )
    environment = {"TORCHFT_LIGHTHOUSE": f"http://127.0.0.1:{port}"}
    replicas = [
        Process(f"replica-{number}", _replica(folder, arguments, number), environment)
        for number in range(arguments.replicas)
    ]
    return [Process("lighthouse", lighthouse), *replicas]


def _replica(folder: Path, arguments: argparse.Namespace, number: int) -> tuple[str, ...]:
    return (
        sys.executable,
        str(WORKER),
        str(arguments.campaign),
        f"--folder={folder}",
        f"--replica={number}",
        f"--replicas={arguments.replicas}",
        f"--collective-timeout={arguments.collective_timeout}",
        f"--manager-timeout={arguments.manager_timeout}",
    )


def peer_of(arguments: argparse.Namespace) -> Peer:
    """torchft with these timeouts."""
    settings = {
        "version": installed_version(),
        "algorithm": "ddp",
        "join_timeout_s": arguments.join_timeout,
        "heartbeat_timeout_s": arguments.heartbeat_timeout,
        "collective_timeout_s": arguments.collective_timeout,
        "manager_timeout_s": arguments.manager_timeout,
        "checkpoint_every": CHECKPOINT_EVERY,
    }
    return Peer("torchft", settings, partial(launch, arguments=arguments))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--join-timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--heartbeat-timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--collective-timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--manager-timeout", type=float, default=30.0, metavar="SECONDS")
    run(parser.parse_args(), peer_of)


if __name__ == "__main__":
    main()
