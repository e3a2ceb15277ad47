"""A trial of a peer: the same run without faults, then with them, and the figures of both.

The peer trains for --baseline-seconds without faults and then, from the start again, for --seconds with them; both
clocks start when every replica has taken part in a step. All figures are of those --seconds.

tokens, steps    committed and counting: the weights at the end descend from them. What was committed after the
                 checkpoint that a run was set back to does not count (tokens_lost, steps_lost: distinct steps).
able_share       1 − (replica-seconds frozen or hung) / (replicas · seconds). A stop is frozen from SIGSTOP to SIGCONT;
                 a hang from its signal to the end of its process: by the peer itself, or by this supervisor 30 s later.
                 A kill takes nothing away: it is restarted at once, and starting and rejoining are the peer's doing.
goodput          tokens / (fault-free tokens per second · seconds · able_share). On a machine with fewer cores than
                 replicas it may exceed 1: while one is frozen the others are faster.
share_of_fault_free  the same without able_share.
longest_stall_s  longest time between two steps of a replica that no fault had hit (from a fault until the replica took
                 part again it counts as hit), up to its own fault or the end of the trial, less the median step.
rejoin_s         from a fault to the first step that its target took part in again; null: not before the end.
process_exits    how often each process of the supervisor's ended, the kills included (torchrun: its agent).
worker_restarts  how often each replica's process was started again, for whatever reason.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from faults import Fault, read_faults
from figures import summary
from supervisor import Phase, Process, run_phase

from tenfold.core.errors import TenfoldError

Launch = Callable[[Path], Sequence[Process]]
"""The peer's processes for a trial whose workers write into this folder."""


@dataclass(frozen=True)
class Peer:
    """A peer's name, its settings for the record, and how to launch it."""

    name: str
    settings: Mapping[str, Any]
    launch: Launch


def parser_of(description: str) -> argparse.ArgumentParser:
    """The options that every peer has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0], allow_abbrev=False)
    parser.add_argument("campaign", type=Path, help="campaign directory whose corpus is built")
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--baseline-seconds", type=float, default=30.0)
    parser.add_argument("--faults", type=Path, required=True, help="JSON list of {at, kind, target, seconds}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; logs go into a folder of the same name")
    return parser


def run(arguments: argparse.Namespace, peer_of: Callable[[argparse.Namespace], Peer]) -> None:
    """The whole of a peer's command: exit status 2 for bad input, 1 when the peer never trained."""
    signal.signal(signal.SIGTERM, _exit)  # so that every `finally` ends its processes
    try:
        _run(arguments, peer_of(arguments))
    except TenfoldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _exit(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _run(arguments: argparse.Namespace, peer: Peer) -> None:
    faults = read_faults(arguments.faults, arguments.replicas, arguments.seconds)
    folder = _new_folder(arguments.out.with_suffix(""))
    baseline = _phase(arguments, peer, folder / "baseline", [], arguments.baseline_seconds)
    phase = _phase(arguments, peer, folder / "faults", faults, arguments.seconds)
    result = {
        "peer": peer.name,
        "settings": dict(peer.settings),
        "replicas": arguments.replicas,
        **summary(baseline, phase),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _phase(arguments: argparse.Namespace, peer: Peer, folder: Path, faults: Sequence[Fault], seconds: float) -> Phase:
    return run_phase(peer.launch(folder), folder, arguments.replicas, faults, seconds)


def _new_folder(base: Path) -> Path:
    """A folder that was not there: what an earlier trial wrote stays."""
    folder, number = base, 1
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    return folder
