"""64-bit digests of weights and gradients: one changed bit or two swapped elements give another digest."""

from collections.abc import Iterable, Mapping

import torch
import xxhash
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tenfold.ledger import GRADIENTS_DIGEST, WEIGHTS_DIGEST
from tenfold.monitor.signals.board import SignalBoard
from tenfold.train import Batch, Observer, StepMeasure, TrainState

KEPT_BITS = 52
"""Of 64, so that a float64 of the ledger holds them exactly: two different tensors look alike once in 4.5e15."""


def digest(tensors: Iterable[Tensor]) -> float:
    """The first 52 bits of the xxh3 digest (Collet, xxHash 0.8) of the bytes of all tensors in order.

    It depends on every bit and on where it stands, which norms and sums do not. Of sharded tensors: this rank's part.
    """
    state = xxhash.xxh3_64()
    for tensor in tensors:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        state.update(local.detach().contiguous().view(-1).view(torch.uint8).cpu().numpy().data)
    return float(state.intdigest() >> (64 - KEPT_BITS))


class ReplicaDigest(Observer):
    """The digest of the weights at every checkpoint, which the loop compares: replicas must be equal to the bit."""

    name = "replica-digest"

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for _, parameter in sorted(model.named_parameters())]
        self._digest = 0.0

    def saving(self, step: int) -> None:
        self._digest = digest(self._parameters)

    def agreeing(self) -> Mapping[str, float]:
        return {WEIGHTS_DIGEST: self._digest}


class Digests(Observer):
    """Digests of all weights after a step and of its reduced gradients, every `every` steps."""

    name = "signals-digests"

    def __init__(self, model: nn.Module, board: SignalBoard, every: int = 1) -> None:
        self._parameters = [parameter for _, parameter in sorted(model.named_parameters())]
        self._board, self._every = board, every
        self._due = False
        self._gradients: float | None = None

    def before_step(self, batch: Batch) -> None:
        self._due = (batch.step + 1) % self._every == 0

    def gradients_ready(self, state: TrainState) -> None:
        if self._due:
            self.read_gradients()

    def read_gradients(self) -> None:
        """Keep the digest of the gradients as they are now."""
        self._gradients = digest(parameter.grad for parameter in self._parameters if parameter.grad is not None)

    def after_step(self, measure: StepMeasure) -> None:
        if not self._due:
            return
        figures = {WEIGHTS_DIGEST: digest(self._parameters)}
        if self._gradients is not None:
            figures[GRADIENTS_DIGEST] = self._gradients
        self._board.put(measure.step, figures)
