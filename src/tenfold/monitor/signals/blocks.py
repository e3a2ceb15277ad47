"""Parameters by block, and the part of each that is read: what norms and digests have in common."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

MOST_ELEMENTS = 65_536
"""Of one tensor, that are read for a norm: evenly spaced rows, and the norm scaled up to the whole."""
_NUMBERED = re.compile(r"(.*?\.?\d+)\.")


def block_of(name: str) -> str:
    """The block that a parameter belongs to: the first numbered part of its name, or the name without its last part.

    `blocks.3.attention.q_proj.weight` → `blocks.3`, `model.layers.0.mlp.up_proj.weight` → `model.layers.0`,
    `embedding.weight` → `embedding`.
    """
    if found := _NUMBERED.match(name):
        return found.group(1)
    return name.rpartition(".")[0] or name


@dataclass(frozen=True)
class ReadPart:
    """What is read of one parameter: a view of some rows, and what its squared norm is multiplied with."""

    name: str
    block: str
    parameter: nn.Parameter
    stride: int

    def view(self, tensor: Tensor) -> Tensor:
        """The rows that are read, of the parameter or of something of its shape; of a sharded one, this rank's."""
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        return local[:: self.stride] if self.stride > 1 else local

    @property
    def scale(self) -> float:
        """Elements of the parameter on this rank over elements read."""
        whole, read = self.parameter.detach(), self.view(self.parameter.detach())
        local = whole.to_local() if isinstance(whole, DTensor) else whole
        return local.numel() / max(1, read.numel())


def parts_of(model: nn.Module) -> list[ReadPart]:
    """Every trained parameter, in the order of the model."""
    return [
        ReadPart(name, block_of(name), parameter, _stride(parameter))
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def _stride(parameter: Tensor) -> int:
    rows = parameter.shape[0] if parameter.dim() > 1 else 1
    return min(rows, -(-parameter.numel() // MOST_ELEMENTS))


def squared_norms(tensors: Iterable[Tensor]) -> Tensor:
    """Squared Euclidean norm of each, float64 on the device, [number of tensors]."""
    each = list(tensors)
    if not each:
        return torch.zeros(0, dtype=torch.float64)
    return torch.stack(torch._foreach_norm(each)).double().square()


class BlockSums:
    """Sums over the parts of each block: squared norms of parts → norms of blocks."""

    def __init__(self, parts: list[ReadPart], device: torch.device) -> None:
        self.blocks = sorted({part.block for part in parts}, key=[part.block for part in parts].index)
        index = [self.blocks.index(part.block) for part in parts]
        self._index = torch.tensor(index, device=device)
        self._scales = torch.tensor([part.scale for part in parts], dtype=torch.float64, device=device)

    def norms(self, squared: Tensor) -> Tensor:
        """[number of parts] squared norms of what was read → [number of blocks] norms of the whole, float64."""
        sums = torch.zeros(len(self.blocks), dtype=torch.float64, device=squared.device)
        return sums.index_add_(0, self._index, squared * self._scales).sqrt()
