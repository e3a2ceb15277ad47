"""One optimisation step. A newcomer starts here."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tenfold.config import Train
from tenfold.train.optimizers import Optimizers
from tenfold.train.ranks import Ranks, gradient_sync


@dataclass
class TrainState:
    """What a step works on: the model that it calls (wrapped for DDP), its optimizers, [train] and the ranks."""

    root: nn.Module
    optimizers: Optimizers
    train: Train
    ranks: Ranks


def train_step(
    state: TrainState,
    micro_batches: Sequence[Tensor],
    learning_rate_factor: float,
    others: Sequence[Tensor] = (),
    gradients_ready: Callable[[TrainState], None] | None = None,
) -> Tensor:
    """Accumulate gradients over the micro-batches (each [batch, context + 1]), check, clip, step, zero.

    Returns float64 figures on the device, each a mean over the ranks: cross-entropy in nats per token, gradient norm
    before clipping, then `others` (0-dim). If one of the figures is not finite, weights and moments stay as they were,
    to the bit: the flag is worked out on the device and agreed on by all ranks, and the host need not wait for it.
    `gradients_ready` is called when all gradients are there, before they are clipped.
    """
    optimizer = state.train.optimizer
    nats = accumulate_gradients(state.root, micro_batches, optimizer.z_loss)
    if gradients_ready:
        gradients_ready(state)
    grad_norm = clip_gradients(state.root, optimizer.clip_norm)
    figures = state.ranks.mean(torch.stack([figure.double() for figure in (nats, grad_norm, *others)]))
    state.optimizers.step(learning_rate_factor, torch.isfinite(figures).all())
    state.optimizers.zero_grad()
    return figures


def accumulate_gradients(model: nn.Module, micro_batches: Sequence[Tensor], z_loss: float) -> Tensor:
    """Gradients of the mean loss over all sequences; ranks exchange theirs with the last micro-batch alone.

    Returns the cross-entropy of this rank's sequences in nats per token.
    """
    sequences = sum(tokens.size(0) for tokens in micro_batches)
    nats = torch.zeros((), device=micro_batches[0].device)
    for index, tokens in enumerate(micro_batches):
        share = tokens.size(0) / sequences
        with gradient_sync(model, enabled=index == len(micro_batches) - 1):
            result = model(tokens, z_loss)
            (result.loss * share).backward()
        nats += result.nats.detach() * share
    return nats


def clip_gradients(model: nn.Module, clip_norm: float) -> Tensor:
    """Scale all gradients so that their global norm is at most `clip_norm` (0: leave them); the norm before."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
