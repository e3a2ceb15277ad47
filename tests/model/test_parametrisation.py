"""Coordinate check: under CompleteP what a step does to activations depends neither on width nor on depth.

Yang et al., arXiv 2203.03466, appendix D.1, and Dey et al., arXiv 2505.01618, figure 5. With the standard
parametrisation the same measurement must fail, or it would prove nothing.
"""

import math

import pytest
import torch

from tenfold.config import Model, Optimizer
from tenfold.model import Transformer, initialise
from tenfold.train.optimizers import build_optimizers
from tests.train.small import OPTIMIZERS

STEPS = 6
TOKENS = torch.randint(0, 64, (8, 33), generator=torch.Generator().manual_seed(3))


def change_after_steps(kind: str, *, width: int = 64, depth: int = 2, scaled: bool = True) -> float:
    """Root mean square of what some steps change in the final hidden states, before the logit factor."""
    base = {"base_width": 64, "base_depth": 2} if scaled else {"base_width": width, "base_depth": depth}
    config = Model.model_validate({"depth": depth, "width": width, "head_dim": 16, "context": 32} | base)
    model = Transformer(config, 64, torch.float32)
    initialise(model, 1)
    optimizers = build_optimizers(
        model, Optimizer.model_validate({"kind": kind, "learning_rate": 0.01, "weight_decay": 0.0})
    )

    def streams() -> torch.Tensor:
        """What the last block gives to the final norm."""
        kept: list[torch.Tensor] = []
        hook = model.final_norm.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].detach()))
        with torch.no_grad():
            model.hidden(TOKENS[:, :-1])
        hook.remove()
        return kept[0]

    before = streams()
    for _ in range(STEPS):
        model(TOKENS).loss.backward()
        optimizers.step(1.0, torch.tensor(True))
        optimizers.zero_grad()
    return float((streams() - before).square().mean().sqrt())


def slope(kind: str, what: str, sizes: list[int], *, scaled: bool = True) -> float:
    """Exponent with which the change grows from the smallest to the largest size."""
    changes = [change_after_steps(kind, scaled=scaled, **{what: size}) for size in sizes]
    return math.log(changes[-1] / changes[0]) / math.log(sizes[-1] / sizes[0])


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_change_does_not_depend_on_width(kind: str) -> None:
    assert abs(slope(kind, "width", [64, 256])) < 0.2


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_change_does_not_depend_on_depth(kind: str) -> None:
    assert abs(slope(kind, "depth", [2, 8])) < 0.2


def test_the_standard_parametrisation_fails_the_same_check() -> None:
    assert slope("adamw", "width", [64, 256], scaled=False) > 0.3
    assert slope("adamw", "depth", [2, 8], scaled=False) > 0.3
