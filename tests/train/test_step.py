"""One step: micro-batches as one batch, clipping, z-loss, ranks as one; one that is not finite changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tenfold.config import Optimizer
from tenfold.train.observe import LoopRequest, Observer, Observers
from tenfold.train.step import accumulate_gradients, clip_gradients, execute, train_step
from tests.train.small import OPTIMIZERS, STEPS, batch_of, gradients_of, new_state, same_bits, tensors_of
from tests.warm import run_ranks

ROOT = Path(__file__).parents[2]
KINDS = pytest.mark.parametrize("kind", OPTIMIZERS)


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_gradients_of_micro_batches_are_those_of_the_whole_batch(micro_batch: int) -> None:
    whole = gradients_of(moved(), batch_of(5).micro_batches)
    parts = gradients_of(moved(), batch_of(5, micro_batch=micro_batch).micro_batches)
    assert len(batch_of(5, micro_batch=micro_batch).micro_batches) == math.ceil(8 / micro_batch)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6)


def moved(kind: str = "adamw", **optimizer: object):
    """A state after two steps: at the start half of the gradients are zero, since blocks add nothing."""
    state = new_state(kind, **optimizer)
    for step in (0, 1):
        execute(state, batch_of(step))
    return state


def test_micro_batches_of_unequal_sizes_count_by_their_sequences() -> None:
    state = moved()
    tokens = torch.cat(batch_of(2).micro_batches)
    nats = [accumulate_gradients(state.root, [part], 0.0).item() for part in (tokens[:6], tokens[6:])]
    state.optimizers.zero_grad()
    together = accumulate_gradients(state.root, [tokens[:6], tokens[6:]], 0.0).item()
    assert together == pytest.approx((6 * nats[0] + 2 * nats[1]) / 8, rel=1e-6)


def test_the_loss_falls_when_the_same_batch_is_trained_on() -> None:
    state = new_state(learning_rate=0.01)
    losses = [execute(state, batch_of(0)).nats for _ in range(10)]
    assert losses[0] == pytest.approx(math.log(61), rel=1e-3), "logits start at zero"
    assert losses[-1] < 0.9 * losses[0]


def test_clipping_scales_to_the_norm_and_reports_the_norm_before() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.grad = torch.full((2, 3), 2.0)
    assert clip_gradients(layer, 0.5).item() == pytest.approx(math.sqrt(24))
    assert layer.weight.grad.norm().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("clip_norm", [0.0, 100.0])
def test_without_a_limit_or_below_it_gradients_stay_to_the_bit(clip_norm: float) -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.grad = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    before = layer.weight.grad.clone()
    assert clip_gradients(layer, clip_norm).item() == pytest.approx(before.norm().item())
    assert torch.equal(layer.weight.grad, before)


def test_a_step_uses_the_clipped_gradient() -> None:
    state = moved(clip_norm=1e-3)
    before = tensors_of(state)
    measure = execute(state, batch_of(2))
    assert measure.grad_norm > 1e-3
    beta = state.train.optimizer.beta1
    name = "unembedding.weight"
    moment, earlier = state.optimizers.state_tensors()[f"{name}/exp_avg"], before[f"{name}/exp_avg"]
    assert 0 < (moment - beta * earlier).norm() <= (1 - beta) * 1e-3 * 1.001


def test_z_loss_pulls_the_partition_function_and_is_not_part_of_what_is_reported() -> None:
    without, with_it = moved(z_loss=0.0), moved(z_loss=0.0)
    with_it.train = with_it.train.model_copy(update={"optimizer": Optimizer(z_loss=0.1)})
    one, other = execute(without, batch_of(2)), execute(with_it, batch_of(2))
    assert one.nats == other.nats
    assert one.grad_norm != other.grad_norm
    model, tokens = moved().root, batch_of(2).micro_batches[0]
    result = model(tokens, 0.1)
    assert result.loss.item() > result.nats.item()


def test_gradients_are_dropped_after_the_step() -> None:
    state = moved()
    assert all(parameter.grad is None for parameter in state.root.parameters())


def test_the_learning_rate_follows_the_position() -> None:
    state = new_state()
    peak, schedule = state.train.optimizer.learning_rate, state.train.schedule
    rates = [execute(state, batch_of(step)).learning_rate for step in range(STEPS)]
    assert max(rates) == peak and rates[-1] < 0.3 * peak
    assert schedule.kind == "wsd"


def test_a_measure_says_where_and_what_it_was() -> None:
    state = new_state()
    batch = batch_of(3, samples=6, micro_batch=4)
    measure = execute(state, batch, request=LoopRequest(stop=True))
    text = sum(state.bytes_of_token[tokens[:, 1:]].sum().item() for tokens in batch.micro_batches)
    assert (measure.step, measure.steps, measure.first_sample, measure.samples) == (4, STEPS, 18, 6)
    assert measure.tokens == 6 * 16 and measure.bytes == text and measure.request.stop
    assert measure.bits_per_byte == pytest.approx(measure.nats / math.log(2) * measure.tokens / text)
    assert measure.is_finite and not measure.is_last and measure.seconds > 0


# A step that is not finite


class Poison(Observer):
    """Makes a gradient NaN or infinite before it is clipped, as an overflow does."""

    def __init__(self, value: float) -> None:
        self.value = value

    def gradients_ready(self, state) -> None:
        list(state.root.parameters())[-1].grad.view(-1)[3] = self.value


@KINDS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_leaves_weights_and_moments_to_the_bit(kind: str, value: float) -> None:
    state = moved(kind)
    before = tensors_of(state)
    measure = execute(state, batch_of(2), Observers([Poison(value)]))
    assert not measure.is_finite
    assert same_bits(tensors_of(state), before)
    execute(state, batch_of(2))
    undisturbed = moved(kind)
    execute(undisturbed, batch_of(2))
    assert same_bits(tensors_of(state), tensors_of(undisturbed)), "the step can be tried again as if nothing had been"


@KINDS
def test_a_loss_that_is_not_finite_leaves_weights_and_moments_to_the_bit(kind: str) -> None:
    state = moved(kind)
    with torch.no_grad():
        next(iter(state.root.parameters())).view(-1)[0] = math.inf
    before = tensors_of(state)
    token = torch.zeros((2, 17), dtype=torch.int64)
    figures = train_step(state, [token], 1.0)
    assert not torch.isfinite(figures).all()
    assert same_bits(tensors_of(state), before)


def guarded_step(state, tokens: Tensor) -> None:
    """As a step is on a GPU, where the host does not know yet whether it counts: the kernels look at the flag."""

    def step(factor: float, finite: Tensor) -> None:
        state.optimizers._update(factor, found_inf=finite.logical_not().float())

    plain = state.optimizers.step
    state.optimizers.step = step
    try:
        train_step(state, [tokens], 0.7)
    finally:
        state.optimizers.step = plain


@KINDS
def test_the_devices_own_check_changes_no_bit_of_a_healthy_step(kind: str) -> None:
    plain, guarded = moved(kind), moved(kind)
    tokens = batch_of(2).micro_batches[0]
    train_step(plain, [tokens], 0.7)
    guarded_step(guarded, tokens)
    assert same_bits(tensors_of(plain), tensors_of(guarded))


@KINDS
def test_the_devices_own_check_keeps_a_bad_step_away_from_weights_and_moments(kind: str) -> None:
    state = moved(kind)
    matrix = next(iter(state.root.parameters()))
    with torch.no_grad():
        matrix[0, 0] = math.inf
    before = tensors_of(state)
    guarded_step(state, torch.zeros((2, 17), dtype=torch.int64))
    assert same_bits(tensors_of(state), before)


def test_a_step_that_is_not_finite_is_not_told_to_observers() -> None:
    told: list[int] = []

    class Watcher(Observer):
        def after_step(self, measure) -> None:
            told.append(measure.step)

    state = moved()
    execute(state, batch_of(2), Observers([Watcher(), Poison(math.nan)]))
    execute(state, batch_of(3), Observers([Watcher()]))
    assert told == [4]


# Ranks


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@KINDS
def test_two_ranks_step_as_one_agree_on_a_bad_step_and_save_together(kind: str, parallel: str, tmp_path: Path) -> None:
    """What is asserted is in ranks_program.py, which each of two processes runs."""
    said = run_ranks([str(Path(__file__).parent / "ranks_program.py"), kind, parallel, str(tmp_path)])
    assert all("all as it should be" in each for each in said)
