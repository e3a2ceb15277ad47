"""Movements of parameters in few bits: plain torch, the same bytes on every machine.

Blocks of 64 elements share a scale, as in Streaming DiLoCo's 4-bit outer gradients (arXiv 2501.18512, section 3.3),
with evenly spaced levels. What rounding leaves out is not lost: the sender keeps it and sends it with the next movement
(error feedback, Karimireddy et al., arXiv 1901.09847).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.config.learners import Precision

BLOCK = 64
LEVELS = {"int8": 127, "int4": 7}


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


def take_spans(vector: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """The parts of a vector that spans name, one after another."""
    return torch.cat([vector[start:end] for start, end in spans]) if spans else vector[:0]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()
