"""One optimisation step. A newcomer starts here."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tenfold.train.optimizers import Optimizers
from tenfold.train.ranks import gradient_sync


class StepResult(NamedTuple):
    """What one step did: mean cross-entropy in nats per token of this rank, gradient norm before clipping."""

    nats: Tensor
    grad_norm: Tensor


def train_step(
    model: nn.Module,
    optimizers: Optimizers,
    micro_batches: Sequence[Tensor],
    learning_rate_factor: float,
    clip_norm: float,
    z_loss: float,
) -> StepResult:
    """Accumulate gradients over the micro-batches (each [batch, context + 1]), clip, step, zero."""
    sequences = sum(tokens.size(0) for tokens in micro_batches)
    nats = torch.zeros((), device=micro_batches[0].device)
    for index, tokens in enumerate(micro_batches):
        share = tokens.size(0) / sequences
        with gradient_sync(model, enabled=index == len(micro_batches) - 1):
            result = model(tokens, z_loss)
            (result.loss * share).backward()
        nats += result.nats.detach() * share
    grad_norm = clip_gradients(model, clip_norm)
    optimizers.step(learning_rate_factor)
    optimizers.zero_grad()
    return StepResult(nats, grad_norm)


def clip_gradients(model: nn.Module, clip_norm: float) -> Tensor:
    """Scale all gradients so that their global norm is at most `clip_norm` (0: leave them); the norm before."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
