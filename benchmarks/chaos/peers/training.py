"""What both peers train: tenfold's model, data, optimizers and step, one thread a replica."""

import ctypes
import os
import secrets
import signal
import time
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from lines import Branch, Line, now, write
from torch import Tensor

from tenfold.config import load_campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data.workspace import verified_manifest
from tenfold.train.checkpoint import Checkpointer, CheckpointState
from tenfold.train.learner import Learner, build_learner
from tenfold.train.ranks import Ranks
from tenfold.train.schedule import learning_rate_factor

CHECKPOINT_EVERY = 50
KEEP_LAST = 3
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux for a SIGKILL when the parent ends, so that nothing is left behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def begin(path: Path) -> None:
    """Say who we are, and hang when told to by SIGUSR1."""
    die_with_parent()
    signal.signal(signal.SIGUSR1, _hang)
    write(path, Line(now(), os.getpid()))


def _hang(number: int, frame: FrameType | None) -> None:
    while True:
        time.sleep(3600)


def build(directory: Path, ranks: Ranks) -> Learner:
    """The campaign's learner, eager and on one thread."""
    campaign = load_campaign(directory, ("train.threads=1", "train.compile=off", "train.device=cpu"))
    files = CampaignFiles(directory)
    return build_learner(campaign, files.data, verified_manifest(campaign, files, hashes=False), ranks)


def share_of_step(learner: Learner, step: int, replica: int, replicas: int) -> list[Tensor]:
    """Micro-batches [micro-batch, context + 1] of replica `replica` of `replicas` in step `step`, from 0."""
    plan = learner.plan
    mine = Ranks(replica, replicas, torch.device("cpu")).share(plan.sequences)
    tokens = learner.stream.batch(step * plan.sequences + mine.start, len(mine)).astype(np.int64)
    return list(torch.split(torch.from_numpy(tokens), plan.micro_batch))


def rate_factor(learner: Learner, step: int) -> float:
    """Learning rate as a share of its peak; a run that is longer than planned stays at the last one."""
    steps = learner.plan.steps
    return learning_rate_factor(learner.campaign.train.schedule, min(step, steps - 1), steps)


def new_branch(lineage: tuple[Branch, ...], step: int) -> tuple[Branch, ...]:
    """The lineage of weights that were loaded from a checkpoint, or initialised, after `step` steps."""
    return (*lineage, (secrets.token_hex(4), step))


def checkpointer_in(folder: Path) -> Checkpointer:
    """Where the one process that saves writes, and all read."""
    return Checkpointer(folder / "checkpoints", keep_last=KEEP_LAST)


def save(learner: Learner, checkpointer: Checkpointer, step: int, lineage: tuple[Branch, ...]) -> None:
    """Save after `step` steps, in the background."""
    meta = {"lineage": lineage}
    checkpointer.save(CheckpointState(learner.state_tensors(), step, step * learner.plan.sequences, meta))


def load_latest(learner: Learner, checkpointer: Checkpointer) -> tuple[int, tuple[Branch, ...]]:
    """Go back to the newest whole checkpoint: its step and lineage, or (0, ()) when there is none."""
    found = checkpointer.latest().checkpoint
    if found is None:
        return 0, ()
    checkpointer.load(found, learner.state_tensors())
    return found.manifest.step, tuple((name, step) for name, step in found.meta["lineage"])
