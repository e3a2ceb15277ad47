"""What goes on inside the model, seen on a few sequences of the batch: activations, attention logits, rare tokens.

The model is called once more, without gradients, beside some of the steps. It runs uncompiled and with hooks that are
there for that call alone, so that the code that trains stays the same, and with it every bit of the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.model import Attention, Block, Transformer
from tenfold.monitor.signals.board import PROBED_SEQUENCES, SignalBoard
from tenfold.train import Batch, Observer, StepMeasure

BANDS = {"frequent": 0.5, "middle": 0.9, "rare": 1.0}
"""Tokens by how often they are met, most frequent first: each band up to this share of all text."""


def token_bands(counts: Tensor) -> Tensor:
    """Band of every token of the vocabulary, as an index into BANDS, from how often each was met; both [V], int64."""
    order = torch.argsort(counts, descending=True, stable=True)
    before = torch.cumsum(counts[order].double(), 0) - counts[order]
    share = before / max(1, int(counts.sum()))
    edges = torch.tensor(list(BANDS.values())[:-1], dtype=torch.float64)
    bands = torch.empty_like(order)
    bands[order] = torch.bucketize(share, edges, right=True)
    return bands


class ModelProbe(Observer):
    """Activations and largest attention logit by block, loss by token band; every `every` steps.

    `counts`: how often each token of the vocabulary occurs in a part of the training text, [V]. Not for sharded
    models, whose ranks would all have to call it.
    """

    name = "signals-model"

    def __init__(self, model: Transformer, board: SignalBoard, counts: Tensor, every: int = 1) -> None:
        self._model, self._board, self._every = model, board, every
        self._bands = token_bands(counts).to(next(model.parameters()).device)
        self._figures: Mapping[str, float] = {}

    def before_step(self, batch: Batch) -> None:
        self._figures = {}
        if (batch.step + 1) % self._every == 0:
            self._figures = probe(self._model, batch.micro_batches[0][:PROBED_SEQUENCES], self._bands)

    def after_step(self, measure: StepMeasure) -> None:
        if self._figures:
            self._board.put(measure.step, self._figures)


@torch.no_grad()
def probe(model: Transformer, tokens_BT1: Tensor, bands_V: Tensor) -> dict[str, float]:
    """The metrics of a model on sequences [B, T + 1]."""
    seen: dict[str, Tensor] = {}
    with torch.compiler.set_stance("force_eager"), _hooked(model, seen):
        nats_BT = model.token_nats(tokens_BT1[:, :-1], tokens_BT1[:, 1:])
    seen |= _by_band(nats_BT, bands_V[tokens_BT1[:, 1:]])
    return dict(zip(seen, torch.stack([value.double() for value in seen.values()]).tolist(), strict=True))


def _by_band(nats_BT: Tensor, bands_BT: Tensor) -> dict[str, Tensor]:
    """Mean loss of each band; a band that does not occur has none."""
    masks = {name: bands_BT == number for number, name in enumerate(BANDS)}
    return {f"tokens/{name}/loss": nats_BT[mask].mean() for name, mask in masks.items() if mask.any()}


@contextmanager
def _hooked(model: Transformer, seen: dict[str, Tensor]) -> Iterator[None]:
    """Every block puts its figures into `seen` while this is open."""
    handles = []
    for number, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        handles.append(block.register_forward_hook(_activation(f"blocks.{number}", seen)))
        handles.append(block.attention.register_forward_hook(_logits(f"blocks.{number}", seen)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _activation(name: str, seen: dict[str, Tensor]) -> Any:
    def hook(block: nn.Module, arguments: Sequence[Tensor], output_BTD: Tensor) -> None:
        seen[f"block/{name}/activation_rms"] = output_BTD.float().square().mean().sqrt()

    return hook


def _logits(name: str, seen: dict[str, Tensor]) -> Any:
    def hook(attention: nn.Module, arguments: Sequence[Tensor], output_BTD: Tensor) -> None:
        assert isinstance(attention, Attention)
        x_BTD, cosine_TH, sine_TH = arguments
        seen[f"block/{name}/attention_logit"] = largest_logit(
            *attention.queries_and_keys(x_BTD[:1], cosine_TH, sine_TH)
        )

    return hook


def largest_logit(q_BNTH: Tensor, k_BMTH: Tensor) -> Tensor:
    """The largest scaled logit that a query has with a key not after it, 0-dim float32."""
    groups = q_BNTH.size(1) // k_BMTH.size(1)
    k_BNTH = k_BMTH.repeat_interleave(groups, dim=1) if groups > 1 else k_BMTH
    logits_BNTT = (q_BNTH.float() @ k_BNTH.float().mT) * q_BNTH.size(-1) ** -0.5
    future = torch.ones(logits_BNTT.shape[-2:], dtype=torch.bool, device=logits_BNTT.device).triu(1)
    largest: Tensor = logits_BNTT.masked_fill(future, -torch.inf).amax()
    return largest
