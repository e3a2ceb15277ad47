"""The transformer and its initial weights. It knows nothing of parallelism, optimizers or files.

Shapes: B batch, T time, D residual width, N query heads, M key/value heads, H head width, F mlp width, V vocabulary.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenfold.config import Model
from tenfold.model.attention import causal_attention
from tenfold.model.loss import linear_cross_entropy, linear_token_nats
from tenfold.model.parametrisation import Role, logit_multiplier, residual_multiplier, role_of

EMBEDDING_STD = 0.5
TIED_EMBEDDING_STD = 0.05  # a tied matrix also makes the logits, which must start small
# What a block adds starts at zero, so that depth does not matter at the start (Zhang et al., arXiv 1901.09321).
ZERO_AT_START = ("o_proj.weight", "down_proj.weight", "unembedding.weight")


class Loss(NamedTuple):
    """Means over a batch, in nats per token: what is minimised, and the cross-entropy alone."""

    loss: Tensor
    nats: Tensor


class Linear(nn.Module):
    """A float32 matrix without bias, cast to the input's dtype at use (cheaper than autocast on a CPU)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs], in the dtype of x."""
        return functional.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """Root-mean-square norm with a gain (Zhang and Sennrich, arXiv 1910.07467), computed in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → the same, in the dtype of x."""
        x_float = x.float()
        scale = torch.rsqrt(x_float.square().mean(-1, keepdim=True) + self.epsilon)
        return (x_float * scale * self.weight).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with RoPE, and QK-norm (Henry et al., arXiv 2010.04245) where asked for."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        width, self.head_dim = config.resolved_width, config.head_dim
        self.q_proj = Linear(width, config.resolved_heads * self.head_dim)
        self.k_proj = Linear(width, config.resolved_kv_heads * self.head_dim)
        self.v_proj = Linear(width, config.resolved_kv_heads * self.head_dim)
        self.o_proj = Linear(config.resolved_heads * self.head_dim, width)
        self.q_norm = RMSNorm(self.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, config.norm_epsilon) if config.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, cosine_TH: Tensor, sine_TH: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        batch, time, _ = x_BTD.shape
        q_BNTH, k_BMTH = self.queries_and_keys(x_BTD, cosine_TH, sine_TH)
        v_BMTH = self._heads(self.v_proj(x_BTD))
        mixed_BNTH = causal_attention(q_BNTH, k_BMTH, v_BMTH)
        out: Tensor = self.o_proj(mixed_BNTH.transpose(1, 2).reshape(batch, time, -1))
        return out

    def queries_and_keys(self, x_BTD: Tensor, cosine_TH: Tensor, sine_TH: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [B, N, T, H] and keys [B, M, T, H], normed and rotated."""
        q_BNTH = self._heads(self.q_proj(x_BTD))
        k_BMTH = self._heads(self.k_proj(x_BTD))
        return (
            rotate(self.q_norm(q_BNTH), cosine_TH, sine_TH),
            rotate(self.k_norm(k_BMTH), cosine_TH, sine_TH),
        )

    def _heads(self, x_BTD: Tensor) -> Tensor:
        batch, time, _ = x_BTD.shape
        return x_BTD.view(batch, time, -1, self.head_dim).transpose(1, 2)


def rotate(x: Tensor, cosine_TH: Tensor, sine_TH: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., arXiv 2104.09864), halves rotated against each other. [..., T, H]."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x * cosine_TH + turned * sine_TH).to(x.dtype)


class SwiGLU(nn.Module):
    """Gated MLP (Shazeer, arXiv 2002.05202, section 2)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        width, hidden = config.resolved_width, config.resolved_mlp_width
        self.gate_proj = Linear(width, hidden)
        self.up_proj = Linear(width, hidden)
        self.down_proj = Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out


class GELU(nn.Module):
    """Plain MLP with the exact GELU, x · Φ(x) (Hendrycks and Gimpel, arXiv 1606.08415, section 2)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        width, hidden = config.resolved_width, config.resolved_mlp_width
        self.up_proj = Linear(width, hidden)
        self.down_proj = Linear(hidden, width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        out: Tensor = self.down_proj(functional.gelu(self.up_proj(x_BTD)))
        return out


def make_mlp(config: Model) -> SwiGLU | GELU:
    """The MLP that `config` asks for."""
    return SwiGLU(config) if config.mlp == "swiglu" else GELU(config)


class Block(nn.Module):
    """Attention, then MLP, each normed before and added to the residual stream with the depth multiplier."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.resolved_width, config.norm_epsilon)
        self.attention = Attention(config)
        self.mlp_norm = RMSNorm(config.resolved_width, config.norm_epsilon)
        self.mlp = make_mlp(config)
        self.residual_multiplier = residual_multiplier(config)

    def forward(self, x_BTD: Tensor, cosine_TH: Tensor, sine_TH: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        mixed_BTD = self.attention(self.attention_norm(x_BTD), cosine_TH, sine_TH)
        x_BTD = torch.add(x_BTD, mixed_BTD, alpha=self.residual_multiplier)
        return torch.add(x_BTD, self.mlp(self.mlp_norm(x_BTD)), alpha=self.residual_multiplier)


class Transformer(nn.Module):
    """Decoder-only transformer, by default a Qwen3 in shape; parameters in float32, products in `compute_dtype`."""

    cosine_TH: Tensor
    sine_TH: Tensor

    def __init__(self, config: Model, vocab_size: int, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.compute_dtype = config, compute_dtype
        self.embedding = nn.Embedding(vocab_size, config.resolved_width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = RMSNorm(config.resolved_width, config.norm_epsilon)
        self.unembedding = None if config.tied_embeddings else Linear(config.resolved_width, vocab_size)
        self.logit_multiplier = logit_multiplier(config)
        cosine_TH, sine_TH = rotary_tables(config)
        self.register_buffer("cosine_TH", cosine_TH, persistent=False)
        self.register_buffer("sine_TH", sine_TH, persistent=False)

    def forward(self, tokens_BT1: Tensor, z_loss: float = 0.0) -> Loss:
        """Loss of predicting each of the T following tokens; `tokens_BT1` is [B, T + 1], int64."""
        hidden_BTD = self.hidden(tokens_BT1[:, :-1])
        targets = tokens_BT1[:, 1:].reshape(-1)
        loss, nats = linear_cross_entropy(hidden_BTD.flatten(0, 1), self.output_weight(), targets, z_loss)
        return Loss(loss, nats)

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Final hidden states [B, T, D] in the compute dtype, the logit multiplier already applied."""
        time = tokens_BT.size(1)
        cosine_TH = self.cosine_TH[:time].to(self.compute_dtype)
        sine_TH = self.sine_TH[:time].to(self.compute_dtype)
        x_BTD = self.embedding(tokens_BT).to(self.compute_dtype)
        for block in self.blocks:
            x_BTD = block(x_BTD, cosine_TH, sine_TH)
        out: Tensor = self.final_norm(x_BTD) * self.logit_multiplier
        return out

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V] in float32."""
        return functional.linear(self.hidden(tokens_BT).float(), self.output_weight().float())

    def token_nats(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of each target in nats, [B, T], float32: for exact evaluation."""
        hidden_BTD = self.hidden(inputs_BT)
        nats = linear_token_nats(hidden_BTD.flatten(0, 1), self.output_weight(), targets_BT.reshape(-1))
        return nats.view_as(targets_BT)

    def output_weight(self) -> Tensor:
        """The matrix [V, D] that turns hidden states into logits."""
        return self.embedding.weight if self.unembedding is None else self.unembedding.weight


def rotary_tables(config: Model) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position × frequency, each [context, head_dim], in float32."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32), config.rope_base**-half)
    angles_TH = torch.cat([angles, angles], dim=-1)
    return angles_TH.cos(), angles_TH.sin()


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Fill every parameter, in place, on the CPU.

    Each is a pure function of the seed and its name, whatever the order or rank.
    """
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(_seed_of(seed, name))
        if role_of(name) is Role.NORM:
            parameter.fill_(1.0)
        elif name.endswith(ZERO_AT_START):
            parameter.zero_()
        elif role_of(name) is Role.HIDDEN:
            parameter.normal_(0.0, parameter.size(1) ** -0.5, generator=generator)
        else:
            std = TIED_EMBEDDING_STD if model.config.tied_embeddings else EMBEDDING_STD
            parameter.normal_(0.0, std, generator=generator)


def _seed_of(seed: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def compile_model(model: Transformer) -> None:
    """Compile one block; the others share its code, so compile time does not grow with depth."""
    for block in model.blocks:
        block.compile(dynamic=False)
