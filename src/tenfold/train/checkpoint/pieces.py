"""Which box of a tensor a rank holds, and how to fill a box from the pieces that were saved."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from tenfold.train.checkpoint.manifest import Piece, StoredTensor


@dataclass(frozen=True)
class Box:
    """The part of a tensor of shape `whole` that this rank holds: it begins at `start`; `local` is the memory."""

    whole: list[int]
    start: list[int]
    local: Tensor
    replicated: bool
    """Whether every rank holds the same, so that one of them is enough to save it."""


def box_of(tensor: Tensor) -> Box:
    """The box of a tensor, plain or sharded along one dimension of a one-dimensional mesh (FSDP2)."""
    whole = list(tensor.shape)
    if not isinstance(tensor, DTensor):
        return Box(whole, [0] * len(whole), tensor, replicated=True)
    (placement,) = tensor.placements
    local = tensor.to_local()
    if not isinstance(placement, Shard):
        return Box(whole, [0] * len(whole), local, replicated=True)
    start = [0] * len(whole)
    size = whole[placement.dim]
    chunk = -(-size // tensor.device_mesh.size())  # as torch.chunk cuts
    start[placement.dim] = min(tensor.device_mesh.get_local_rank() * chunk, size)
    return Box(whole, start, local, replicated=False)


def fill(box: Box, stored: StoredTensor, name: str, directory: Path) -> None:
    """Copy into `box.local` what the pieces hold of it. Raises ValueError when they do not cover it."""
    filled = 0
    for piece in stored.pieces:
        filled += _copy_overlap(box, piece, name, directory)
    if filled != box.local.numel():
        raise ValueError(f"{name}: its pieces hold {filled} of {box.local.numel()} elements")


def _copy_overlap(box: Box, piece: Piece, name: str, directory: Path) -> int:
    starts = [max(ours, theirs) for ours, theirs in zip(box.start, piece.start, strict=True)]
    ends = [
        min(ours + size, theirs + length)
        for ours, size, theirs, length in zip(box.start, box.local.shape, piece.start, piece.shape, strict=True)
    ]
    if any(end <= start for start, end in zip(starts, ends, strict=True)):
        return 0
    with safe_open(directory / piece.file, framework="pt") as file:
        if not starts:  # a scalar has no slices
            part = file.get_tensor(name)
        else:
            theirs = zip(starts, ends, piece.start, strict=True)
            part = file.get_slice(name)[tuple(slice(a - o, b - o) for a, b, o in theirs)]
    ours = tuple(slice(a - o, b - o) for a, b, o in zip(starts, ends, box.start, strict=True))
    target = box.local[ours]
    with torch.no_grad():
        target.copy_(part)
    return target.numel()
