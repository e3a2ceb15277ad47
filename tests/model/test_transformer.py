"""The transformer against plain formulas."""

import pytest
import torch
from torch.nn import functional

from tenfold.config import Model, Optimizer
from tenfold.model import Transformer, count_parameters, initialise, training_flops_per_token
from tenfold.model.attention import causal_attention
from tenfold.model.loss import CHUNK_LOGITS, linear_cross_entropy, linear_token_nats
from tenfold.train.optimizers import build_optimizers
from tests.train.small import OPTIMIZERS

KINDS = [{"qk_norm": qk_norm, "mlp": mlp} for qk_norm in (True, False) for mlp in ("swiglu", "gelu")]


def make_model(seed: int = 1, **changes: object) -> Transformer:
    config = Model.model_validate({"depth": 2, "width": 64, "head_dim": 16, "context": 32} | changes)
    model = Transformer(config, 300, torch.float32)
    initialise(model, seed)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{}, {"kv_heads": 2}, {"tied_embeddings": True}, {"mlp_width": 80}])
def test_parameters_and_flops_are_counted_without_building(kind: dict[str, object], changes: dict[str, object]) -> None:
    model = make_model(**kind, **changes)
    count = count_parameters(model.config, 300)
    assert count.total == sum(p.numel() for p in model.parameters())
    assert count.hidden == sum(p.numel() for p in [*model.blocks.parameters(), *model.final_norm.parameters()])
    matrices = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2) + model.output_weight().numel()
    attention = 6 * model.config.depth * 64 * 32  # all heads together are as wide as the model; context 32
    assert training_flops_per_token(model.config, 300) == 6 * matrices + attention


@pytest.mark.parametrize("width", [16, 64, 80, 192, 1024])
def test_both_mlps_have_as_many_parameters_by_default(width: int) -> None:
    gated, plain = (Model.model_validate({"width": width, "head_dim": 8, "mlp": mlp}) for mlp in ("swiglu", "gelu"))
    assert gated.resolved_mlp_width % 64 == 0 and 3 * gated.resolved_mlp_width == 2 * plain.resolved_mlp_width
    assert count_parameters(gated, 300) == count_parameters(plain, 300)


@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_a_given_mlp_width_is_taken_as_it_is(mlp: str) -> None:
    assert make_model(mlp=mlp, mlp_width=80).get_parameter("blocks.0.mlp.up_proj.weight").shape == (80, 64)


def test_an_older_checkpoint_names_what_the_default_model_holds() -> None:
    attention = [f"attention.{matrix}_proj.weight" for matrix in "qkvo"] + ["attention.q_norm.weight"]
    mlp = [f"mlp.{matrix}_proj.weight" for matrix in ("gate", "up", "down")]
    block = ["attention_norm.weight", *attention, "attention.k_norm.weight", "mlp_norm.weight", *mlp]
    blocks = [f"blocks.{number}.{name}" for number in range(2) for name in block]
    outer = ["final_norm.weight", "unembedding.weight"]
    assert list(make_model().state_dict()) == ["embedding.weight", *blocks, *outer]


def test_the_plain_mlp_is_its_formula() -> None:
    mlp = make_model(mlp="gelu").blocks[0].mlp
    torch.nn.init.normal_(mlp.down_proj.weight, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(1))
    inner = x @ mlp.up_proj.weight.T
    expected = (inner * (1 + torch.erf(inner / 2**0.5)) / 2) @ mlp.down_proj.weight.T
    assert torch.allclose(mlp(x), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_add_nothing_at_the_start(kind: dict[str, object]) -> None:
    model = make_model(**kind)
    tokens = torch.arange(32)[None]
    with torch.no_grad():
        hidden = model.final_norm(model.embedding(tokens)) * model.logit_multiplier
        assert torch.equal(model.hidden(tokens), hidden)
        assert model.logits(tokens).abs().max() == 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_with_all_its_weights(kind: dict[str, object], optimizer: str) -> None:
    model = make_model(**kind)
    started = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = build_optimizers(model, Optimizer.model_validate({"kind": optimizer, "learning_rate": 0.01}))
    tokens = torch.randint(0, 300, (4, 33), generator=torch.Generator().manual_seed(3))
    losses = []
    for _ in range(8):
        loss = model(tokens).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimizers.step(1.0, torch.tensor(True))
        optimizers.zero_grad()
    assert losses[-1] < 0.9 * losses[0]
    assert not [name for name, parameter in model.named_parameters() if torch.equal(parameter, started[name])]


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
