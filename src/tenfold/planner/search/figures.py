"""FLOPs of a step: those the model needs, and those the hardware does."""

from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.search.question import Question


def model_flops(question: Question) -> float:
    """Of one step: 6 for each multiplying parameter and token, and causal attention; nothing computed again."""
    return float(question.shape.training_flops_per_token) * question.tokens


def hardware_flops(question: Question, layout: Layout) -> float:
    """With what recomputation adds: the attention's forward pass if selective, that of all layers if full.

    What fused attention computes again inside its backward pass is not counted, as nobody does.
    """
    return model_flops(question) + float(_again(question, float(layout.recomputation))) * question.tokens


def _again(question: Question, recomputation: float) -> Numbers:
    shape = question.shape
    attention = 2 * shape.layers * shape.heads * shape.head_dim * shape.context
    if recomputation == 2:
        return 2 * (shape.active_parameters - shape.embedding_parameters) + attention
    return attention if recomputation == 1 else 0.0
