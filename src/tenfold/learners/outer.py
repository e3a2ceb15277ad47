"""What is exchanged and how it is merged: fragments, pseudo-gradients in few bits, the outer step.

A pseudo-gradient (DiLoCo, arXiv 2311.08105, algorithm 1) is what a learner's inner steps changed in a fragment since
what it sent last. Here it points where the learner went, so it is added: the negative of the paper's outer gradient.

Encoding is plain torch, the same bytes on every machine. Blocks of 64 elements share a scale, as in Streaming DiLoCo's
4-bit outer gradients (arXiv 2501.18512, section 3.3), with evenly spaced levels. What rounding leaves out is not lost:
the sender keeps it and sends it with the next pseudo-gradient
(error feedback, Karimireddy et al., arXiv 1901.09847).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from tenfold.config import Precision
from tenfold.core import InputError, digest_of_bytes

ElementRange = tuple[int, int]
KEPT_DIFFERENCES = 8  # of each fragment: a learner that missed more versions than this takes the whole fragment
BLOCK = 64
LEVELS = {"int8": 127, "int4": 7}


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


def spans_of_rank(fragment: Fragment, shapes: Mapping[str, Sequence[int]], rank: int, ranks: int) -> list[ElementRange]:
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


def take_spans(vector: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """The parts of a vector that spans name, one after another."""
    return torch.cat([vector[start:end] for start, end in spans]) if spans else vector[:0]


def place_part(part: Tensor, spans: list[ElementRange], fragment: Fragment) -> Tensor:
    """A rank's part in a vector as long as the fragment."""
    whole, taken = torch.zeros(fragment.size), 0
    for start, end in spans:
        whole[start:end] = part[taken : taken + end - start]
        taken += end - start
    return whole


def vector_of(weights: dict[str, Tensor], fragment: Fragment) -> Tensor:
    """A fragment's parameters as one float32 vector."""
    return torch.cat([weights[name].reshape(-1) for name in fragment.names]).float().clone()


def digest_of_values(values: Tensor) -> str:
    """sha256 over float32 values, as learners and syncer compare them."""
    return digest_of_bytes(values.detach().cpu().contiguous().view(torch.uint8).numpy().data)


def encode(vector_N: Tensor, precision: Precision) -> bytes:
    """float32 [N] → bytes. NaN and infinity survive as NaN, so that the receiver can refuse them."""
    vector_N = vector_N.detach().to("cpu", torch.float32)
    if precision in ("float32", "bf16"):
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        return _bytes(vector_N.to(dtype))
    levels = LEVELS[precision]
    blocks_BK = torch.nn.functional.pad(vector_N, (0, -vector_N.numel() % BLOCK)).view(-1, BLOCK)
    scale_B = (blocks_BK.abs().amax(dim=1) / levels).to(torch.bfloat16)
    divisor_B1 = scale_B.float().clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    codes_BK = (blocks_BK / divisor_B1).round().nan_to_num().clamp(-levels, levels).to(torch.int8)
    if precision == "int4":
        codes_BK = (codes_BK[:, 0::2] + 8) | ((codes_BK[:, 1::2] + 8) << 4)
    return _bytes(scale_B) + _bytes(codes_BK)


def decode(data: bytes | bytearray | memoryview, size: int, precision: Precision) -> Tensor:
    """Bytes → float32 [size]. Raises ValueError when there are more or fewer bytes than `size` elements need."""
    if len(data) != encoded_size(size, precision):
        raise ValueError(f"{len(data)} bytes instead of {encoded_size(size, precision)} for {size} {precision} values")
    if not size:
        return torch.empty(0)
    whole = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    if precision in ("float32", "bf16"):
        return whole.view(torch.float32 if precision == "float32" else torch.bfloat16).float()
    blocks = -(-size // BLOCK)
    scale_B = whole[: 2 * blocks].view(torch.bfloat16).float()
    codes = whole[2 * blocks :].view(blocks, -1)
    if precision == "int4":
        codes_BK = torch.stack([(codes & 15).to(torch.int8) - 8, (codes >> 4).to(torch.int8) - 8], dim=2)
    else:
        codes_BK = codes.view(torch.int8)
    return (codes_BK.reshape(blocks, BLOCK).float() * scale_B[:, None]).view(-1)[:size]


def encoded_size(size: int, precision: Precision) -> int:
    """Bytes that `size` elements take."""
    blocks = -(-size // BLOCK)
    return {
        "float32": 4 * size,
        "bf16": 2 * size,
        "int8": blocks * (2 + BLOCK),
        "int4": blocks * (2 + BLOCK // 2),
    }[precision]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@dataclass(frozen=True)
class FragmentState:
    """One version of a fragment and what the next one is made from; float32 vectors of the fragment's size.

    `values` is what every learner has, bit for bit. Versions are sent as rounded differences; `residual` is what
    rounding has left out so far, so that values + residual is the exact result.
    """

    version: int
    values: Tensor
    momentum: Tensor
    residual: Tensor

    @classmethod
    def first(cls, values: Tensor) -> "FragmentState":
        """Version 0: the initial weights."""
        return cls(0, values, torch.zeros_like(values), torch.zeros_like(values))


@dataclass(frozen=True)
class OuterOptimizer:
    """Nesterov momentum on the merged pseudo-gradient (DiLoCo, arXiv 2311.08105, algorithm 1)."""

    learning_rate: float
    momentum: float
    precision: Precision

    def step(
        self, state: FragmentState, pseudo_gradients: Sequence[tuple[float, Tensor]]
    ) -> tuple[FragmentState, bytes]:
        """The next version from (weight, pseudo-gradient) in this order; and the encoded difference learners apply."""
        merged = torch.zeros_like(state.values)
        for weight, pseudo_gradient in pseudo_gradients:
            merged.add_(pseudo_gradient, alpha=weight)
        momentum = self.momentum * state.momentum + merged
        exact = state.values + state.residual + self.learning_rate * (merged + self.momentum * momentum)
        difference = encode(exact - state.values, self.precision)
        values = apply_difference(state.values, difference, self.precision)
        return FragmentState(state.version + 1, values, momentum, exact - values), difference


def apply_difference(values: Tensor, difference: bytes | bytearray | memoryview, precision: Precision) -> Tensor:
    """The next version from the one before it and the difference, as the syncer and every learner compute it."""
    return values + decode(difference, values.numel(), precision)
