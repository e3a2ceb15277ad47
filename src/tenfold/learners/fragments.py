"""The model cut into fragments of about equal size, which are exchanged one after another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from tenfold.core.errors import InputError

Span = tuple[int, int]


@dataclass(frozen=True)
class Fragment:
    """Parameters that travel together, laid one after another in one vector of `size` elements."""

    index: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of the whole fragment."""
        return sum(self.sizes)


def cut_model(shapes: Mapping[str, Sequence[int]], count: int) -> list[Fragment]:
    """Spread tensors over `count` fragments, the largest first, each to the lightest fragment so far.

    The same on every machine: it depends on names and shapes alone. Raises InputError when there are more fragments
    than tensors.
    """
    if count > len(shapes):
        raise InputError(f"learners.fragments = {count}: the model has {len(shapes)} tensors; give at most that many")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    members: list[list[str]] = [[] for _ in range(count)]
    weights = [0] * count
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        lightest = min(range(count), key=lambda index: (weights[index], index))
        members[lightest].append(name)
        weights[lightest] += sizes[name]
    return [
        Fragment(index, tuple(sorted(names)), tuple(sizes[name] for name in sorted(names)))
        for index, names in enumerate(members)
    ]


def shard_of(index: int, shards: int) -> int:
    """Which of the syncer's shards holds a fragment."""
    return index % shards


def spans_of_rank(fragment: Fragment, shapes: Mapping[str, Sequence[int]], rank: int, ranks: int) -> list[Span]:
    """What one of several ranks holds of a fragment when each tensor is cut along its first dimension (FSDP2).

    [start, end) in the fragment's vector, in order. Tensors are cut as torch.chunk cuts.
    """
    spans, offset = [], 0
    for name, size in zip(fragment.names, fragment.sizes, strict=True):
        rows = shapes[name][0] if shapes[name] else 1
        per_row, per_rank = size // max(1, rows), -(-rows // ranks)
        first, last = min(rank * per_rank, rows), min((rank + 1) * per_rank, rows)
        if last > first:
            spans.append((offset + first * per_row, offset + last * per_row))
        offset += size
    return spans


def local_part(parameter: Tensor) -> Tensor:
    """The memory this rank holds of a parameter. Raises InputError for a layout that is not cut along dimension 0."""
    if not isinstance(parameter, DTensor):
        return parameter.detach()
    (placement,) = parameter.placements
    if isinstance(placement, Shard) and placement.dim != 0:
        raise InputError("a learner's ranks must cut every parameter along its first dimension")
    local: Tensor = parameter.to_local().detach()
    return local
