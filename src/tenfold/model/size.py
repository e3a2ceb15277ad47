"""Parameters and FLOPs of a shape, counted without building it."""

from dataclasses import dataclass

from tenfold.config import Model


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model; `embeddings` counts a tied matrix once."""

    embeddings: int
    hidden: int

    @property
    def total(self) -> int:
        """Parameters, embeddings included."""
        return self.embeddings + self.hidden


def count_parameters(config: Model, vocab_size: int) -> ParameterCount:
    """Count parameters of `config` with this vocabulary."""
    width, head = config.resolved_width, config.head_dim
    attention = 2 * width * head * (config.resolved_heads + config.resolved_kv_heads)
    mlp = (3 if config.mlp == "swiglu" else 2) * width * config.resolved_mlp_width
    matrices = 1 if config.tied_embeddings else 2
    hidden = config.depth * (attention + mlp) + _norm_gains(config)
    return ParameterCount(embeddings=matrices * vocab_size * width, hidden=hidden)


def _norm_gains(config: Model) -> int:
    """Gains of all norms: two of a block, those of queries and keys, the final one."""
    block = 2 * config.resolved_width + (2 * config.head_dim if config.qk_norm else 0)
    return config.depth * block + config.resolved_width


def training_flops_per_token(config: Model, vocab_size: int) -> float:
    """FLOPs to train on one token: 6 for each weight that multiplies, and causal attention.

    PaLM's counting (Chowdhery et al., arXiv 2204.02311, appendix B) with attention halved, since the causal mask leaves
    half of it: 6 · context · heads · head width a layer. Looking up an embedding costs nothing; norms are not counted.
    """
    hidden = count_parameters(config, vocab_size).hidden - _norm_gains(config)
    multiplying = hidden + vocab_size * config.resolved_width
    attention = 6 * config.depth * config.resolved_heads * config.head_dim * config.context
    return 6.0 * multiplying + attention
