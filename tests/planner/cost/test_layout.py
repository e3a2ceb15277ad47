"""Parameters and FLOPs of known models."""

from dataclasses import replace

import pytest

from tenfold.planner.cost.layout import Layout, Shape, share_out

MODELS = {
    "Llama 3.1 405B": (Shape(126, 16384, 128, 8, 128, 53248, 3, 128256, 8192), 405.85e9),
    "Llama 3.1 70B": (Shape(80, 8192, 64, 8, 128, 28672, 3, 128256, 8192), 70.55e9),
    "Llama 3.1 8B": (Shape(32, 4096, 32, 8, 128, 14336, 3, 128256, 8192), 8.03e9),
    "Mixtral 8x7B": (Shape(32, 4096, 32, 8, 128, 14336, 3, 32000, 4096, 8, 2, 0, 14336), 46.70e9),
    "Qwen3-30B-A3B": (Shape(48, 2048, 32, 4, 128, 6144, 3, 151936, 4096, 128, 8, 0, 768), 30.53e9),
}
"""With the parameters that their checkpoints hold."""


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name: str) -> None:
    shape, parameters = MODELS[name]
    assert shape.parameters == pytest.approx(parameters, rel=1e-3)


def test_active_parameters() -> None:
    mixtral = MODELS["Mixtral 8x7B"][0]
    assert mixtral.active_parameters == pytest.approx(
        12.88e9 - 32000 * 4096, rel=1e-3
    )  # the input embedding is looked up


def test_flops_of_llama() -> None:
    """Llama 3 405B was trained with 3.8e25 FLOPs on 15.6T tokens (arXiv 2407.21783, section 1)."""
    shape = MODELS["Llama 3.1 405B"][0]
    assert shape.training_flops_per_token * 15.6e12 == pytest.approx(3.8e25, rel=0.04)


def test_tied_embeddings_count_once() -> None:
    untied, tied = (
        Shape(2, 64, 4, 4, 16, 256, 3, 1000, 128),
        Shape(2, 64, 4, 4, 16, 256, 3, 1000, 128, tied_embeddings=1),
    )
    assert untied.parameters - tied.parameters == 64 * 1000
    assert untied.training_flops_per_token == tied.training_flops_per_token


def test_a_tuned_pipeline_gives_the_stage_with_the_head_fewer_layers() -> None:
    """Llama 3 8B on four stages: its head costs as much as 2.4 layers."""
    shape = MODELS["Llama 3.1 8B"][0]
    layout = Layout(tensor=1.0, pipeline=4.0, data=2.0, micro_batch=1.0, accumulation=8.0)
    even, tuned = (share_out(shape, replace(layout, balanced_stages=kind)) for kind in (0.0, 2.0))
    assert (even.fullest, even.last) == (8, 8)
    assert (tuned.fullest, tuned.last) == (9, 6)
    assert 3 * tuned.fullest + tuned.last >= shape.layers


@pytest.mark.parametrize("stages", [2.0, 4.0, 8.0, 16.0])
def test_no_tuned_pipeline_is_slower_than_an_even_one(stages: float) -> None:
    for shape, _ in MODELS.values():
        layout = Layout(tensor=1.0, pipeline=stages, data=2.0, micro_batch=1.0, accumulation=32.0)
        head = shape.embedding_parameters / (shape.attention_parameters + shape.mlp_parameters)
        even, tuned = (share_out(shape, replace(layout, balanced_stages=kind)) for kind in (0.0, 2.0))
        assert max(tuned.fullest, tuned.last + head) <= max(even.fullest, even.last + head)
        assert (stages - 1) * tuned.fullest + tuned.last >= shape.layers
