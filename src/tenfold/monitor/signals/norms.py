"""How large gradients and updates are, block by block, and how well bf16 would hold them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tenfold.ledger import UPDATE_NORM
from tenfold.monitor.signals.blocks import BlockSums, ReadPart, parts_of, squared_norms
from tenfold.monitor.signals.board import SignalBoard
from tenfold.train import Batch, Observer, StepMeasure, TrainState

SMALLEST_BF16, LARGEST_BF16 = 2.0**-126, 3.3895e38
"""Normal numbers of bf16; float32 holds smaller and no larger ones."""
ROWS = 8
"""Of a gradient whose elements are looked at one by one."""


class Norms(Observer):
    """Norms of gradients, updates and weights by block, every `every` steps; of a sharded model, the first rank's part.

    An update is the difference of the weights before and after, whatever made it, so an optimizer that went wrong
    shows; it is kept for the rows that `ReadPart` reads and for one step alone.
    """

    name = "signals-norms"

    def __init__(self, model: nn.Module, board: SignalBoard, every: int = 1) -> None:
        self._parts, self._board, self._every = parts_of(model), board, every
        self._sums = BlockSums(self._parts, self._parts[0].parameter.device)
        self._before: list[Tensor] | None = None
        self._gradients: Tensor | None = None

    def before_step(self, batch: Batch) -> None:
        if (batch.step + 1) % self._every == 0:
            self.remember()

    def remember(self) -> None:
        """Keep the weights as they are before a step."""
        self._before = [part.view(part.parameter.detach()).clone() for part in self._parts]

    def gradients_ready(self, state: TrainState) -> None:
        if self._before is not None:
            self.read_gradients()

    @torch.no_grad()
    def read_gradients(self) -> None:
        """Keep the figures of the gradients, on the device."""
        grads = [_gradient(part) for part in self._parts]
        self._gradients = torch.cat([self._sums.norms(squared_norms(grads)), _numerics(grads)])

    def after_step(self, measure: StepMeasure) -> None:
        if self._before is not None:
            self._board.put(measure.step, self.figures())

    @torch.no_grad()
    def figures(self) -> Mapping[str, float]:
        """The metrics of the step that is done; what was kept before it is dropped."""
        before, gradients = self._before, self._gradients
        self._before = self._gradients = None
        assert before is not None
        now = [part.view(part.parameter.detach()) for part in self._parts]
        weights = self._sums.norms(squared_norms(now))
        torch._foreach_sub_(before, now)
        updates = self._sums.norms(squared_norms(before))
        return self._named(weights.tolist(), updates.tolist(), [] if gradients is None else gradients.tolist())

    def _named(self, weights: list[float], updates: list[float], gradients: list[float]) -> dict[str, float]:
        figures = {UPDATE_NORM: sum(update**2 for update in updates) ** 0.5}
        for block, weight, update in zip(self._sums.blocks, weights, updates, strict=True):
            figures[f"block/{block}/update_norm"] = update
            figures[f"block/{block}/update_ratio"] = update / weight if weight else 0.0
        for block, norm in zip(self._sums.blocks, gradients, strict=False):
            figures[f"block/{block}/grad_norm"] = norm
        names = ("numerics/non_finite", "numerics/underflow_share", "numerics/saturation_share")
        figures.update(zip(names, gradients[len(self._sums.blocks) :], strict=False))
        return figures


def _gradient(part: ReadPart) -> Tensor:
    grad = part.parameter.grad
    return part.view(torch.zeros_like(part.parameter) if grad is None else grad.detach())


def _few_rows(grad: Tensor) -> Tensor:
    return grad[:: -(-grad.size(0) // ROWS)] if grad.dim() > 1 and grad.size(0) else grad


def _numerics(grads: list[Tensor]) -> Tensor:
    """(elements not finite, share below bf16's normal numbers, share above half its largest), float64, [3].

    Of the rows that are looked at; any element that is not finite makes the norm of its block so too.
    """
    sizes = torch.cat([_few_rows(grad).reshape(-1).abs() for grad in grads])
    small = ((sizes > 0) & (sizes < SMALLEST_BF16)).double().mean()
    large = (sizes > LARGEST_BF16 / 2).double().mean()
    return torch.stack([(~torch.isfinite(sizes)).sum().double(), small, large])
