"""What attaches to training loops that are not tenfold's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tenfold.learners import OuterLoop


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
