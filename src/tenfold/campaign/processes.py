"""What each process of a run with several learners does: apart from the other commands, so that it imports no more."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tenfold.config import load_campaign
from tenfold.core import fork_early, serve_forks
from tenfold.data import open_workspace
from tenfold.learners import learn, serve_as_syncer, syncer_of_own_loops
from tenfold.train import make_deterministic, on_corpus_of_run


def run_syncer(
    directory: Path, overrides: Sequence[str], shard: int, port: int | None, bulk_port: int, *, child: bool
) -> dict[str, Any]:
    """Hold the global fragments of a run, or those of one shard, until it is finished."""
    with open_workspace(directory, overrides, hashes=not child) as opened:
        workspace = on_corpus_of_run(opened)
        if port is None:
            first = workspace.campaign.learners.port
            port = first and first + 2 * shard
        return {"finished": serve_as_syncer(workspace, shard, port, bulk_port, child=child)}


def run_syncer_of_own_loops(
    directory: Path, overrides: Sequence[str], total: int, port: int | None, bulk_port: int
) -> dict[str, Any]:
    """Lead a run whose learners are loops of their own, until it is finished."""
    return {"finished": syncer_of_own_loops(directory, overrides, total, port or 0, bulk_port)}


def run_learner(
    directory: Path,
    overrides: Sequence[str],
    *,
    name: str,
    syncer: str | None,
    token_file: Path | None,
    tls_root: Path | None,
    child: bool,
) -> dict[str, Any]:
    """Train as one learner of a run until it is finished."""
    with open_workspace(directory, overrides, hashes=not child) as workspace:
        learn(on_corpus_of_run(workspace), name, syncer, token_file, tls_root, child=child)
    return {"learner": name, "finished": True}


def run_fork_server(main: Callable[[], object]) -> None:
    """Body of the process that learners are forked off: all is imported, nothing has computed yet."""
    # imports the compiler, a second of computing; a learner sets its own number of threads
    serve_forks(main, get_ready=lambda: make_deterministic(1))


def fork_server_early(main: Callable[[], object], directory: Path, overrides: Sequence[str]) -> None:
    """Where this process is going to lead learners: fork their server off it, so that none imports everything again."""
    if "RANK" not in os.environ and load_campaign(directory, overrides).learners.count:
        fork_early(lambda: run_fork_server(main))
