"""CompleteP: what makes one learning rate serve every width and depth.

Dey et al., "Don't be lazy: CompleteP enables compute-efficient deep transformers", arXiv 2505.01618, table 1 with
α = 1. m_N = width / base_width, m_L = depth / base_depth.

| | at base | scaled by |
|---|---|---|
| residual branch | 1 | m_L^-1 |
| logits | 1 | m_N^-1 |
| hidden matrices: init variance | 1 / fan-in | (fan-in already scales with m_N) |
| hidden matrices: AdamW learning rate | η | m_N^-1 |
| hidden matrices: weight decay | λ | m_N, so that η·λ stays |
| hidden matrices: AdamW ε | ε | m_N^-1 · m_L^-1 |
| embeddings: AdamW ε | ε | m_N^-1 |
| embeddings, norm gains: learning rate | η | 1 |

Muon's update already has the spectral norm the width asks for (Yang, Simon and Bernstein, arXiv 2310.17813), so its
learning rate needs no factor of width beyond sqrt(max(1, fan-out / fan-in)), which Muon applies.
"""

from dataclasses import dataclass
from enum import Enum

from tenfold.config import Model


class Role(Enum):
    """What a parameter is, as far as scaling is concerned."""

    EMBEDDING = "embedding"
    HIDDEN = "hidden"
    NORM = "norm"


@dataclass(frozen=True)
class Multipliers:
    """Factors on AdamW's base settings for one parameter."""

    learning_rate: float
    weight_decay: float
    epsilon: float


def width_multiplier(config: Model) -> float:
    """m_N."""
    return config.resolved_width / config.base_width


def depth_multiplier(config: Model) -> float:
    """m_L."""
    return config.depth / config.base_depth


def residual_multiplier(config: Model) -> float:
    """Factor on what each block adds to the residual stream."""
    return 1 / depth_multiplier(config)


def logit_multiplier(config: Model) -> float:
    """Factor on the logits."""
    return 1 / width_multiplier(config)


def role_of(name: str) -> Role:
    """The role of the parameter called `name` in the transformer."""
    if name.endswith("norm.weight"):
        return Role.NORM
    return Role.HIDDEN if name.startswith("blocks.") else Role.EMBEDDING


def adamw_multipliers(config: Model, role: Role) -> Multipliers:
    """How AdamW's settings scale for parameters of this role. Norm gains are not decayed."""
    width, depth = width_multiplier(config), depth_multiplier(config)
    match role:
        case Role.HIDDEN:
            return Multipliers(1 / width, width, 1 / (width * depth))
        case Role.EMBEDDING:
            return Multipliers(1.0, 1.0, 1 / width)
        case Role.NORM:
            return Multipliers(1.0, 0.0, 1 / (width * depth))
