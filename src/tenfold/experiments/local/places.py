"""Which part of the model, and which phase of the step, is at work at a moment of training."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tenfold.model import Transformer
from tenfold.model.transformer import Block

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


class Place(NamedTuple):
    """Phase of the step (forward, backward, update) and part of the model."""

    phase: str
    part: str


class Places:
    """Follows a step of a model.

    In the forward pass modules say by hooks that they are at work. A node of the backward pass carries the number that
    autograd had counted to when its forward operation ran, which leads back to the module.
    """

    def __init__(self, model: Transformer) -> None:
        self.passes = 0
        """Forward passes begun."""
        self._model = model
        self._stack: list[str] = []
        self._numbers: list[int] = []  # autograd's count whenever the module at work changed
        self._parts: list[str] = []  # the part at work from then on
        self._updating = False
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Put the hooks in place."""
        for part, module in _named_parts(self._model):
            self._handles.append(module.register_forward_pre_hook(self._entering(part)))
            self._handles.append(module.register_forward_hook(self._leaving))
        self._handles.append(register_optimizer_step_pre_hook(self._update_begins))
        self._handles.append(register_optimizer_step_post_hook(self._update_ends))

    def detach(self) -> None:
        """Take them away."""
        for handle in self._handles:
            handle.remove()

    def current(self) -> Place:
        """Where the operation that runs now belongs."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return Place(BACKWARD, self._part_of(node))
        if self._stack:
            return Place(FORWARD, self._stack[-1])
        return Place(UPDATE, "optimizer" if self._updating else "clipping")

    def _part_of(self, node: Any) -> str:
        number = bisect_right(self._numbers, node._sequence_nr()) - 1
        return (self._parts[number] if number >= 0 else "") or "gradients"

    def _entering(self, part: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self.passes += not self._stack
            self._stack.append(part)
            self._note()

        return hook

    def _leaving(self, *_: Any) -> None:
        self._stack.pop()
        self._note()

    def _note(self) -> None:
        self._numbers.append(torch._C._autograd._get_sequence_nr())
        self._parts.append(self._stack[-1] if self._stack else "")

    def _update_begins(self, *_: Any) -> None:
        self._updating = True

    def _update_ends(self, *_: Any) -> None:
        self._updating = False


def _named_parts(model: Transformer) -> Iterator[tuple[str, nn.Module]]:
    """Modules with the part that their own work, outside the modules within them that are named too, counts to."""
    yield "loss", model
    yield "embedding", model.embedding
    yield "norms", model.final_norm
    for block in model.blocks:
        assert isinstance(block, Block)
        yield "residual", block
        yield "norms", block.attention_norm
        yield "attention", block.attention
        yield "norms", block.mlp_norm
        yield "MLP", block.mlp
