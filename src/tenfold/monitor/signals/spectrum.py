"""Spectral entropy of what a step does to attention's bilinear form.

A head weighs pairs of residual vectors by xᵀ Wqᵀ Wk y. To first order a step changes that form by
ΔWqᵀ Wk + Wqᵀ ΔWk, of rank at most twice the head's width. Its spectral entropy is that of the normalised singular
values; it falls when the updates of a head collapse onto few directions, which Huang et al. (arXiv 2606.28116, section
3) report thousands of steps before the loss diverges with faulty low-precision attention.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.model import Attention, Transformer
from tenfold.monitor.signals.board import SignalBoard
from tenfold.train import Batch, Observer, StepMeasure


def bilinear_update_entropy(query: Tensor, key: Tensor, query_update: Tensor, key_update: Tensor) -> Tensor:
    """Entropy in nats of the singular values of ΔWqᵀ Wk + Wqᵀ ΔWk over their sum; all arguments [H, D]. 0-dim.

    With A = [ΔWqᵀ, Wqᵀ] and B = [Wk; ΔWk] the form is A B, and A = Q R, Bᵀ = P S give the singular values of R Sᵀ,
    [2H, 2H].
    """
    left = torch.linalg.qr(torch.cat([query_update, query]).double().T).R
    right = torch.linalg.qr(torch.cat([key, key_update]).double().T).R
    values = torch.linalg.svdvals(left @ right.T)
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy: Tensor = -(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum()
    return entropy


@dataclass(frozen=True)
class _Head:
    block: str
    query: Tensor
    key: Tensor

    def copied(self) -> tuple[Tensor, Tensor]:
        return self.query.clone(), self.key.clone()


def _heads(model: Transformer) -> Iterator[_Head]:
    """The first head of every block, as views of its weights [H, D]."""
    for number, block in enumerate(model.blocks):
        attention = block.attention
        assert isinstance(attention, Attention)
        width = attention.head_dim
        query, key = attention.q_proj.weight.detach(), attention.k_proj.weight.detach()
        yield _Head(f"blocks.{number}", query[:width], key[:width])


class AttentionSpectrum(Observer):
    """Spectral entropy of the update of one head of every block, every `every` steps; not for sharded models."""

    name = "signals-attention"

    def __init__(self, model: Transformer, board: SignalBoard, every: int = 1) -> None:
        self._heads, self._board, self._every = list(_heads(model)), board, every
        self._before: list[tuple[Tensor, Tensor]] | None = None

    def before_step(self, batch: Batch) -> None:
        if (batch.step + 1) % self._every == 0:
            self._before = [head.copied() for head in self._heads]

    def after_step(self, measure: StepMeasure) -> None:
        if self._before is not None:
            self._board.put(measure.step, self._figures(self._before))
        self._before = None

    @torch.no_grad()
    def _figures(self, before: list[tuple[Tensor, Tensor]]) -> Mapping[str, float]:
        entropies = [
            bilinear_update_entropy(query, key, head.query - query, head.key - key)
            for head, (query, key) in zip(self._heads, before, strict=True)
        ]
        names = [f"block/{head.block}/qk_entropy" for head in self._heads]
        return dict(zip(names, torch.stack(entropies).tolist(), strict=True))
