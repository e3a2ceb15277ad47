"""One optimisation step. A newcomer starts here, at `train_step`.

`execute` is the one function that trains: these samples at this position on this state, and what was measured. The
plain loop, a learner's inner step, the time trial, replay and whatever else re-executes a step call it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tenfold.config import Train
from tenfold.train.batching import Batch
from tenfold.train.observe import NOBODY, NOTHING, LoopRequest, Observers
from tenfold.train.optimizers import Optimizers
from tenfold.train.ranks import Ranks, gradient_sync
from tenfold.train.schedule import learning_rate_factor


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


@dataclass
class RunState(TrainState):
    """A state with its place in a run: how many steps the schedule has, bytes each token stands for [vocabulary]."""

    steps: int
    bytes_of_token: Tensor

    def batch_bytes(self, micro_batches: list[Tensor]) -> Tensor:
        """Bytes that the targets of this rank's batch stand for."""
        return torch.stack([self.bytes_of_token[tokens[:, 1:]].sum() for tokens in micro_batches]).sum()


@dataclass(frozen=True)
class StepMeasure:
    """What one step measured, all ranks together."""

    step: int
    """Steps of the run that are done with this one."""
    steps: int
    """Of the whole run."""
    first_sample: int
    samples: int
    tokens: int
    nats: float
    """Cross-entropy, nats per token."""
    bytes: float
    """Of text, that the tokens stand for."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    seconds: float
    """From the batch at hand to these figures."""
    request: LoopRequest = NOTHING
    """What the ranks were asked for, all together."""

    @property
    def is_last(self) -> bool:
        """Whether the run is finished with this step."""
        return self.step == self.steps

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite. If they are not, the step has changed nothing."""
        return math.isfinite(self.nats) and math.isfinite(self.grad_norm)

    @property
    def bits_per_byte(self) -> float:
        """The loss without the tokenizer in it."""
        return self.nats * self.tokens / self.bytes / math.log(2)


def execute(
    state: RunState, batch: Batch, observers: Observers = NOBODY, *, request: LoopRequest = NOTHING
) -> StepMeasure:
    """Train on one batch. A step that was not finite is not told to `observers`, since it changed nothing.

    `request`: what this rank was asked for, which all ranks learn in the same message as the figures.
    """
    factor = learning_rate_factor(state.train.schedule, batch.step, state.steps)
    observers.before_step(batch)
    began = time.perf_counter()
    mine = state.batch_bytes(batch.micro_batches)
    others = (mine, *(mine.new_full((), flag, dtype=torch.float64) for flag in request.flags))
    figures = train_step(state, batch.micro_batches, factor, others, observers.gradients_hook)
    nats, grad_norm, mean_bytes, *asked = figures.tolist()
    ranks = state.ranks.world_size
    measure = StepMeasure(
        step=batch.step + 1,
        steps=state.steps,
        first_sample=batch.first_sample,
        samples=batch.samples,
        tokens=batch.tokens,
        nats=nats,
        bytes=mean_bytes * ranks,
        grad_norm=grad_norm,
        learning_rate=state.train.optimizer.learning_rate * factor,
        seconds=time.perf_counter() - began,
        request=LoopRequest.of(*(flag * ranks for flag in asked)),
    )
    if measure.is_finite:
        observers.after_step(measure)
    return measure
