"""A tiny model in a state that steps can be tried on, without a campaign."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold.config import Model, Optimizer, Train
from tenfold.model import Transformer, initialise
from tenfold.train.batching import Batch, fetch_batch
from tenfold.train.optimizers import build_optimizers
from tenfold.train.ranks import Ranks
from tenfold.train.step import RunState

OPTIMIZERS: tuple[str, ...] = get_args(Optimizer.model_fields["kind"].annotation)
"""Every kind of optimizer that a campaign may name."""
VOCABULARY, CONTEXT, STEPS = 61, 16, 20
ALONE = Ranks(0, 1, torch.device("cpu"))
SHAPE = Model(depth=2, width=32, head_dim=16, context=CONTEXT, base_width=32, base_depth=2)


class Tokens:
    """Sample i is a function of i alone."""

    samples_per_epoch = 1000

    def batch(self, start: int, count: int) -> NDArray[np.int64]:
        rows = [np.random.default_rng(i).integers(0, VOCABULARY, CONTEXT + 1) for i in range(start, start + count)]
        return np.stack(rows)


def new_state(kind: str = "adamw", *, seed: int = 0, ranks: Ranks = ALONE, **optimizer: object):
    """A state after no step; `optimizer`: keys of [train.optimizer]."""
    train = Train.model_validate({"optimizer": {"kind": kind, **optimizer}})
    model = Transformer(SHAPE, VOCABULARY, torch.float32)
    initialise(model, seed)
    return RunState(
        root=model,
        optimizers=build_optimizers(model, train.optimizer),
        train=train,
        ranks=ranks,
        steps=STEPS,
        bytes_of_token=torch.arange(VOCABULARY) % 5 + 1,
    )


def batch_of(step: int, samples: int = 8, micro_batch: int = 8, ranks: Ranks = ALONE) -> Batch:
    """What step `step` of a run trains on."""
    first = step * samples
    return fetch_batch(Tokens(), ranks, step=step, first_sample=first, samples=samples, micro_batch=micro_batch)


def tensors_of(state: RunState) -> dict[str, Tensor]:
    """Weights and moments, copied."""
    weights = {f"model/{name}": parameter.detach() for name, parameter in state.root.named_parameters()}
    return {name: tensor.clone() for name, tensor in (weights | state.optimizers.state_tensors()).items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all tensors are the same, byte for byte: 0.0 and −0.0 differ, NaN equals itself."""
    return one.keys() == other.keys() and all(
        torch.equal(one[n].contiguous().view(-1).view(torch.uint8), other[n].contiguous().view(-1).view(torch.uint8))
        for n in one
    )


def gradients_of(state: RunState, micro_batches: Sequence[Tensor]) -> dict[str, Tensor]:
    """Gradients as they are when a step has accumulated them; the step itself is done too."""
    from tenfold.train.step import train_step

    kept: dict[str, Tensor] = {}

    def keep(state: object) -> None:
        for name, parameter in state.root.named_parameters():  # type: ignore[attr-defined]
            kept[name] = parameter.grad.detach().clone()

    train_step(state, micro_batches, 1.0, gradients_ready=keep)
    return kept
