"""The transformer against plain formulas."""

import pytest
import torch
from torch.nn import functional

from tenfold.config import Model
from tenfold.model import Transformer, count_parameters, initialise
from tenfold.model.attention import causal_attention
from tenfold.model.loss import CHUNK_LOGITS, linear_cross_entropy, linear_token_nats


def make_model(seed: int = 1, **changes: object) -> Transformer:
    config = Model.model_validate({"depth": 2, "width": 64, "head_dim": 16, "context": 32} | changes)
    model = Transformer(config, 300, torch.float32)
    initialise(model, seed)
    return model


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2}, {"tied_embeddings": True}, {"mlp_width": 80}])
def test_parameters_are_counted_without_building(changes: dict[str, object]) -> None:
    model = make_model(**changes)
    assert count_parameters(model.config, 300).total == sum(p.numel() for p in model.parameters())


def test_initial_weights_depend_on_the_seed_and_the_name_alone() -> None:
    first, again, other = make_model(1), make_model(1), make_model(2)
    assert torch.equal(first.embedding.weight, again.embedding.weight)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    deeper = make_model(1, depth=3)
    name = "blocks.0.mlp.up_proj.weight"
    assert torch.equal(first.get_parameter(name), deeper.get_parameter(name))


def test_the_future_is_never_seen() -> None:
    model = make_model()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(32)[None] * 7 % 300
    changed = tokens.clone()
    changed[0, 20:] = 5
    with torch.no_grad():
        one, other = model.logits(tokens), model.logits(changed)
    assert torch.equal(one[0, :20], other[0, :20])
    assert not torch.equal(one[0, 20:], other[0, 20:])


@pytest.mark.parametrize("time", [1, 12, 64, 65, 150, 300])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_blocked_attention_and_its_gradient_are_torchs_own(time: int, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(2, heads, time, 16, generator=generator).to(dtype) for heads in (4, 2, 2, 4))
    inputs = tuple(tensor.requires_grad_() for tensor in (q, k, v))
    ours = causal_attention(*inputs)
    exact = tuple(tensor.detach().float().requires_grad_() for tensor in inputs)
    theirs = functional.scaled_dot_product_attention(*exact, is_causal=True, enable_gqa=True)
    assert torch.allclose(ours.float(), theirs, atol=tolerance)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(theirs, exact, grad.float()), strict=True
    ):
        assert (one.float() - other).norm() <= tolerance * (1 + other.norm())  # of one query it is zero


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
def test_chunked_loss_equals_the_plain_one(z_loss: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHUNK_LOGITS, "cpu", 7 * 300)  # chunks of 7 rows, the last one shorter
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 16, generator=generator, requires_grad=True)
    weight = torch.randn(300, 16, generator=generator, requires_grad=True)
    targets = torch.randint(300, (40,), generator=generator)
    logits = hidden @ weight.T
    plain = functional.cross_entropy(logits, targets)
    expected = plain + z_loss * logits.logsumexp(-1).square().mean()
    expected_grads = torch.autograd.grad(expected, (hidden, weight))
    loss, nats = linear_cross_entropy(hidden, weight, targets, z_loss)
    assert torch.allclose(loss, expected) and torch.allclose(nats, plain)
    for actual, wanted in zip(torch.autograd.grad(loss, (hidden, weight)), expected_grads, strict=True):
        assert torch.allclose(actual, wanted, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(linear_token_nats(hidden, weight, targets).mean(), plain)
