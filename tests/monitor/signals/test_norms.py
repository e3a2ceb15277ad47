"""Norms by block and digests: exact on small tensors, estimates on large ones, and no bit of the weights moved."""

import math

import pytest
import torch
from torch import nn

from tenfold.ledger import GRADIENTS_DIGEST, UPDATE_NORM, WEIGHTS_DIGEST
from tenfold.monitor.signals.blocks import MOST_ELEMENTS, block_of, parts_of
from tenfold.monitor.signals.board import SignalBoard
from tenfold.monitor.signals.digests import Digests, digest
from tenfold.monitor.signals.norms import Norms
from tenfold.monitor.signals.probe import ModelProbe
from tenfold.monitor.signals.spectrum import AttentionSpectrum
from tenfold.train import Observer, Observers, execute
from tests.train.small import OPTIMIZERS, VOCABULARY, batch_of, new_state, tensors_of


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("blocks.3.attention.q_proj.weight", "blocks.3"),
        ("model.layers.11.mlp.up_proj.weight", "model.layers.11"),
        ("transformer.h.0.ln_1.bias", "transformer.h.0"),
        ("embedding.weight", "embedding"),
        ("model.embed_tokens.weight", "model.embed_tokens"),
        ("0.weight", "0"),
        ("weight", "weight"),
    ],
)
def test_blocks_are_named_by_their_numbers(name: str, block: str) -> None:
    assert block_of(name) == block


def watched(observer_of, kind: str = "adamw", steps: int = 1):  # type: ignore[no-untyped-def]
    board, state = SignalBoard(), new_state(kind)
    observers = Observers([observer_of(state.root, board)])
    before = {name: p.detach().clone() for name, p in state.root.named_parameters()}
    for step in range(steps):
        execute(state, batch_of(step), observers)
    assert len(list(observers)) == 1, "it failed and was taken out"
    return state, before, board.values(steps)


def test_norms_are_those_of_the_whole_tensors() -> None:
    seen: dict[str, float] = {}

    class Gradients(Observer):
        def gradients_ready(self, state) -> None:
            for name, parameter in state.root.named_parameters():
                seen[block_of(name)] = math.hypot(seen.get(block_of(name), 0.0), float(parameter.grad.double().norm()))

    board, state = SignalBoard(), new_state()
    before = {name: p.detach().clone() for name, p in state.root.named_parameters()}
    measure = execute(state, batch_of(0), Observers([Gradients(), Norms(state.root, board)]))
    found, total = board.values(1), 0.0
    for block, norm in seen.items():
        assert found[f"block/{block}/grad_norm"] == pytest.approx(norm, rel=1e-6)
    for block in seen:
        names = [name for name in before if block_of(name) == block]
        now = dict(state.root.named_parameters())
        update = math.sqrt(sum(float((now[n].detach().double() - before[n].double()).square().sum()) for n in names))
        weight = math.sqrt(sum(float(now[n].detach().double().square().sum()) for n in names))
        assert found[f"block/{block}/update_norm"] == pytest.approx(update, rel=1e-4)
        assert found[f"block/{block}/update_ratio"] == pytest.approx(update / weight, rel=1e-4)
        total += update**2
    assert found[UPDATE_NORM] == pytest.approx(math.sqrt(total), rel=1e-4)
    assert math.hypot(*seen.values()) == pytest.approx(measure.grad_norm, rel=1e-5)
    assert found["numerics/non_finite"] == found["numerics/saturation_share"] == 0


def test_large_matrices_are_read_in_part_and_scaled_up() -> None:
    torch.manual_seed(0)
    model = nn.Linear(512, 2048, bias=False)
    (part,) = parts_of(model)
    read = part.view(model.weight.detach())
    assert read.numel() <= MOST_ELEMENTS < model.weight.numel()
    estimate = math.sqrt(float(read.square().sum()) * part.scale)
    assert estimate == pytest.approx(float(model.weight.detach().norm()), rel=0.02)


def test_what_bf16_would_lose_is_counted() -> None:
    board, model = SignalBoard(), nn.Linear(4, 2, bias=False)
    model.weight.grad = torch.tensor([[1e-40, 0, 1, 2], [3e38, math.nan, math.inf, 1.0]])
    norms = Norms(model, board)
    norms.remember()
    norms.read_gradients()
    found = norms.figures()
    assert found["numerics/non_finite"] == 2
    assert found["numerics/underflow_share"] == 1 / 8 and found["numerics/saturation_share"] == 2 / 8


def test_a_digest_knows_every_bit_and_its_place() -> None:
    torch.manual_seed(1)
    tensors = [torch.randn(5, 7), torch.randn(11).bfloat16()]
    before = digest(tensors)
    assert before == digest([tensor.clone() for tensor in tensors]) == float(int(before)) < 2**52
    flipped = [tensor.clone() for tensor in tensors]
    flipped[0].view(torch.int32)[2, 3] ^= 1
    swapped = [tensor.clone() for tensor in tensors]
    swapped[0][0, 0], swapped[0][4, 6] = tensors[0][4, 6], tensors[0][0, 0]
    assert len({before, digest(flipped), digest(swapped)}) == 3
    assert torch.equal(swapped[0].sum(), tensors[0].sum()) or torch.isclose(swapped[0].sum(), tensors[0].sum())


def test_two_runs_have_the_same_digests_and_another_seed_has_others() -> None:
    found = [watched(Digests, steps=3)[2] for _ in range(2)]
    assert found[0] == found[1] and set(found[0]) == {WEIGHTS_DIGEST, GRADIENTS_DIGEST}
    board, other = SignalBoard(), new_state(seed=1)
    for step in range(3):
        execute(other, batch_of(step), Observers([Digests(other.root, board)]))
    assert board.values(3)[WEIGHTS_DIGEST] != found[0][WEIGHTS_DIGEST]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_no_signal_moves_a_bit_of_weights_or_moments(kind: str) -> None:
    board, state, alone = SignalBoard(), new_state(kind), new_state(kind)
    model = state.root
    signals = [
        Norms(model, board),
        Digests(model, board),
        ModelProbe(model, board, torch.ones(VOCABULARY, dtype=torch.int64)),
        AttentionSpectrum(model, board),
    ]
    observers = Observers(signals)
    for step in range(4):
        execute(state, batch_of(step), observers)
        execute(alone, batch_of(step))
    assert list(observers) == signals
    ours, theirs = tensors_of(state), tensors_of(alone)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_readings_come_every_so_many_steps() -> None:
    noted: dict[int, dict[str, float]] = {}
    board = SignalBoard(lambda step, values: noted.setdefault(step, {}).update(values))
    state = new_state()
    for step in range(6):
        observers = Observers([Norms(state.root, board, every=3)]) if step == 0 else observers  # noqa: F821
        execute(state, batch_of(step), observers)
    assert sorted(noted) == [3, 6]
