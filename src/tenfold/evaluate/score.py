"""Bits per byte, exact: every byte of every document is predicted once, with as much context as fits.

Beside it what general-purpose compressors make of the same text.
"""

import gzip
import lzma
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import zstandard
from numpy.typing import NDArray
from torch import Tensor

from tenfold.core import digest_of_files

ZSTD_LEVEL = 22  # its strongest
TokenNats = Callable[[Tensor, Tensor], Tensor]
"""(inputs [B, T], targets [B, T]) → cross-entropy of each target in nats, [B, T]."""


@dataclass(frozen=True)
class Score:
    """Sums over a holdout, and what follows from them. Perplexity is per token, so it depends on the tokenizer."""

    nats: float
    bytes: int
    tokens: int
    bits_per_byte: float
    perplexity: float


@dataclass(frozen=True)
class Window:
    """`inputs` predict `targets`; of these only the last `fresh` have not been counted in an earlier window."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    fresh: int


def score_documents(
    token_nats: TokenNats,
    documents: Sequence[tuple[NDArray[np.integer], int]],
    end_of_document: int,
    context: int,
    stride: int,
    batch: int,
    device: torch.device,
) -> Score:
    """Score documents given as (tokens, bytes of UTF-8).

    Each document begins after an end-of-document token, so its first token is predicted too; predicting where it ends
    is not asked for. Windows advance by `stride`, so every token but the first few has at least context − stride tokens
    before it.
    """
    nats = 0.0
    pending: list[Window] = []
    for window in (w for tokens, _ in documents for w in windows(tokens, end_of_document, context, stride)):
        pending.append(window)
        if len(pending) == batch:
            nats += _nats_of(token_nats, pending, context, device)
            pending = []
    if pending:
        nats += _nats_of(token_nats, pending, context, device)
    count_bytes = sum(size for _, size in documents)
    count_tokens = sum(tokens.size for tokens, _ in documents)
    return Score(
        nats=nats,
        bytes=count_bytes,
        tokens=count_tokens,
        bits_per_byte=nats / math.log(2) / count_bytes,
        perplexity=math.exp(nats / count_tokens),
    )


def windows(tokens: NDArray[np.integer], end_of_document: int, context: int, stride: int) -> Iterator[Window]:
    """Cut one document into windows of at most `context` tokens."""
    row = np.concatenate([[end_of_document], tokens]).astype(np.int64)
    counted = 0
    while counted < tokens.size:
        end = min(tokens.size, context if counted == 0 else counted + stride)
        begin = max(0, end - context)
        yield Window(row[begin:end], row[begin + 1 : end + 1], end - counted)
        counted = end


def _nats_of(token_nats: TokenNats, group: list[Window], context: int, device: torch.device) -> float:
    """Sum over the fresh targets. Padding goes to the right, where causal attention cannot see it."""
    length = min(context, max(window.inputs.size for window in group))
    inputs = np.zeros((len(group), length), dtype=np.int64)
    targets = np.zeros_like(inputs)
    counts = np.zeros_like(inputs, dtype=bool)
    for row, window in enumerate(group):
        size = window.inputs.size
        inputs[row, :size], targets[row, :size] = window.inputs, window.targets
        counts[row, size - window.fresh : size] = True
    result = token_nats(torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
    return float(result.double()[torch.from_numpy(counts).to(device)].sum())


def scoring_code_version() -> str:
    """sha256 over this room's source: scores made by other code are made again."""
    folder = Path(__file__).parent
    return digest_of_files(folder.glob("*.py"), folder)


def compressed_bits_per_byte(text: bytes) -> dict[str, float]:
    """Bits per byte of gzip, xz and zstd, each at its strongest setting, on `text` as one file."""
    sizes = {
        "gzip": len(gzip.compress(text, 9, mtime=0)),
        "xz": len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(text)),
    }
    return {name: 8 * size / len(text) for name, size in sizes.items()}
