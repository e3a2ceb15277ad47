"""Initial weights: each parameter a pure function of the seed and its name, whatever the order or rank."""

import hashlib

import torch

from tenfold.model.parametrisation import Role, role_of
from tenfold.model.transformer import Transformer

EMBEDDING_STD = 0.5
TIED_EMBEDDING_STD = 0.05  # a tied matrix also makes the logits, which must start small
# What a block adds starts at zero, so that depth does not matter at the start (Zhang et al., arXiv 1901.09321).
ZERO_AT_START = ("o_proj.weight", "down_proj.weight", "unembedding.weight")


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Fill every parameter, in place, on the CPU."""
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
