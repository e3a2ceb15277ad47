"""What attaches to training loops that are not tenfold's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold.learners import OuterLoop
from tenfold.monitor import WatchedLoop, watching_callback
from tenfold.train import Observer


def learner(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    syncer: str,
    name: str,
    batch: int,
    token: str | None = None,
    token_file: str | Path | None = None,
    tls_root: str | Path | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> OuterLoop:
    """Make a plain PyTorch loop one learner of a run: use it in a `with`, and call its `step` after every step.

    `syncer`: HOST:PORT as `tenfold syncer DIR --total SAMPLES` printed it. See docs/learners.md, and `OuterLoop` for
    each argument.
    """
    return OuterLoop(
        model,
        optimizer,
        syncer=syncer,
        name=name,
        batch=batch,
        token=token,
        token_file=token_file,
        tls_root=tls_root,
        recipe=recipe,
    )


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    run: str | Path,
    step: int = 0,
    total: int | None = None,
    every: int | None = None,
    observers: tuple[Observer, ...] = (),
) -> WatchedLoop:
    """Watch a plain PyTorch loop: use it in a `with`, and call its `step(loss, batch)` after every step.

    `run`: a folder for the ledger, which `tenfold watch RUN` shows. See docs/watch.md, and `WatchedLoop` for each
    argument.
    """
    return WatchedLoop(model, optimizer, run=run, step=step, total=total, every=every, observers=observers)


def watch_trainer(run: str | Path, *, every: int | None = None, observers: tuple[Observer, ...] = ()) -> Any:
    """Watch Hugging Face Trainer: a callback for `Trainer(callbacks=[tenfold.watch_trainer("runs/mine")])`."""
    return watching_callback(run, every=every, observers=observers)
