"""The shape of a transformer, and what follows from it: parameters and FLOPs."""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.cost.numbers import Numbers


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer, dense or with mixture-of-experts layers. Fields are numbers or arrays alike."""

    layers: Numbers
    width: Numbers
    heads: Numbers
    kv_heads: Numbers
    head_dim: Numbers
    mlp_width: Numbers
    """Hidden width of a dense MLP; of the leading dense layers if there are experts."""
    mlp_matrices: Numbers
    """Matrices of one MLP or expert: 3 if gated, else 2."""
    vocabulary: Numbers
    context: Numbers
    experts: Numbers = 0.0
    """Routed experts of a layer; 0 for a dense model."""
    experts_per_token: Numbers = 0.0
    shared_experts: Numbers = 0.0
    expert_width: Numbers = 0.0
    dense_layers: Numbers = 0.0
    """Leading layers without experts, in a model that has experts."""
    tied_embeddings: Numbers = 0.0

    @property
    def attention_parameters(self) -> Numbers:
        """Of one layer: queries, keys, values, output."""
        return 2 * self.width * self.head_dim * (self.heads + self.kv_heads)

    @property
    def mlp_parameters(self) -> Numbers:
        """Of one dense MLP."""
        return self.mlp_matrices * self.width * self.mlp_width

    @property
    def expert_parameters(self) -> Numbers:
        """Of one expert."""
        return self.mlp_matrices * self.width * self.expert_width

    @property
    def expert_layers(self) -> Numbers:
        """Layers that have experts."""
        return np.where(np.asarray(self.experts) > 0, self.layers - self.dense_layers, 0.0)

    @property
    def embedding_parameters(self) -> Numbers:
        """Of one embedding matrix."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> Numbers:
        """All of them, gains of norms left out."""
        routed = self.expert_layers * (self.experts + self.shared_experts) * self.expert_parameters
        router = self.expert_layers * self.width * self.experts
        dense = (self.layers - self.expert_layers) * self.mlp_parameters
        matrices = 2 - self.tied_embeddings
        return self.layers * self.attention_parameters + dense + routed + router + matrices * self.embedding_parameters

    @property
    def active_parameters(self) -> Numbers:
        """Those that one token is multiplied with; looking up the input embedding multiplies nothing."""
        used = self.expert_layers * (self.experts_per_token + self.shared_experts) * self.expert_parameters
        dense = (self.layers - self.expert_layers) * self.mlp_parameters
        return self.layers * self.attention_parameters + dense + used + self.embedding_parameters

    @property
    def training_flops_per_token(self) -> Numbers:
        """6 for each multiplying parameter, and causal attention.

        PaLM's counting (Chowdhery et al., arXiv 2204.02311, appendix B) with attention halved for the causal mask.
        """
        return 6 * self.active_parameters + 6 * self.layers * self.heads * self.head_dim * self.context
