"""The outer step around a model in this process: what it takes, what it refuses, and how it heals."""

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tenfold
from tenfold.config import Learners
from tenfold.core import InputError, StopRequest
from tenfold.learners.anyone.founding import Founding, FoundingPart, part_key
from tenfold.learners.anyone.outer_loop import OptimizerState, OuterLoop
from tenfold.learners.anyone.serving import serve_own_loops
from tenfold.learners.messages import Refused
from tenfold.learners.outer import cut_model
from tenfold.learners.syncer.service import SyncerSite
from tenfold.learners.wire import BlobServer, Security

TOTAL, BATCH = 400, 4


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[str]:
    """A syncer in a thread; where it listens."""
    stop, servers = StopRequest(), list[BlobServer]()
    site = SyncerSite(tmp_path / "learners", Security("secret"), "127.0.0.1", 0)
    settings = Learners(inner_steps=2, fragments=2, stalled_after=60.0)
    thread = threading.Thread(
        target=serve_own_loops, args=(tmp_path, settings, TOTAL, site, stop, servers.append), daemon=True
    )
    thread.start()
    while not servers:
        time.sleep(0.01)
    yield servers[0].address
    stop.signal_name = "SIGTERM"
    thread.join(60.0)
    assert not thread.is_alive()


def small_model(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def loop(syncer: str, name: str, seed: int = 0, **more: Any) -> tuple[OuterLoop, nn.Module, torch.optim.Optimizer]:
    model, optimizer = small_model(seed)
    outer = tenfold.learner(model, optimizer, syncer=syncer, name=name, batch=BATCH, token="secret", **more)
    return outer, model, optimizer


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    x = torch.randn(BATCH, 3)
    loss: torch.Tensor = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).clone()


def test_one_loop_alone_trains_every_sample_once_and_ends(syncer: str) -> None:
    outer, model, optimizer = loop(syncer, "one")
    seen: list[int] = []
    with outer:
        for samples in outer:
            seen += samples
            outer.step(BATCH, train(model, optimizer))
    assert sorted(seen) == list(range(TOTAL))
    assert outer.finished
    again, *_ = loop(syncer, "late")
    with again:
        assert list(again) == []
        assert not again.step(BATCH)


def test_whoever_comes_later_takes_the_weights_and_moments_of_who_trains(syncer: str) -> None:
    first, model, optimizer = loop(syncer, "one", seed=1)
    with first:
        for _ in range(4):
            first.step(BATCH, train(model, optimizer))
        joined = threading.Event()
        second, other, other_optimizer = loop(syncer, "two", seed=2)

        def keep_training() -> None:
            while not joined.wait(0.1):
                first.step(BATCH, train(model, optimizer))

        thread = threading.Thread(target=keep_training)
        thread.start()
        time.sleep(1.0)  # a heartbeat has told the syncer that it trains
        with second:
            joined.set()
            thread.join()
            assert len(other_optimizer.state) == 4, "before it has made a step"
            assert not torch.equal(weights(other), weights(small_model(2)[0]))
            assert (weights(other) - weights(model)).abs().max() < 0.2


def test_another_recipe_is_refused_by_its_key(syncer: str) -> None:
    first, *_ = loop(syncer, "one", recipe={"lr": 0.01})
    second, *_ = loop(syncer, "two", recipe={"lr": 0.02})
    with first, pytest.raises(Refused, match=r"two: another configuration than the syncer's .lr: 0.01 → 0.02."), second:
        pass


def test_another_model_is_refused(syncer: str) -> None:
    first, *_ = loop(syncer, "one")
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = tenfold.learner(model, optimizer, syncer=syncer, name="two", batch=BATCH, token="secret")
    with first, pytest.raises(Refused, match="two: another"), other:
        pass


def test_a_loss_that_is_no_number_takes_good_weights_and_goes_on(syncer: str) -> None:
    outer, model, optimizer = loop(syncer, "one")
    with outer:
        for _ in range(6):
            outer.step(BATCH, train(model, optimizer))
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)
        assert outer.step(BATCH, math.nan)
        assert bool(torch.isfinite(weights(model)).all())
        for samples in outer:
            assert samples
            outer.step(BATCH, train(model, optimizer))
    assert outer.finished
    assert bool(torch.isfinite(weights(model)).all())


def test_a_model_that_was_moved_is_said(syncer: str) -> None:
    outer, model, optimizer = loop(syncer, "one")
    with pytest.raises(InputError, match="parameters were moved"), outer:
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        for _ in range(4):
            outer.step(BATCH, train(model, optimizer))


def test_parameters_that_are_not_float32_are_refused() -> None:
    model = nn.Linear(3, 1).to(torch.bfloat16)
    with pytest.raises(InputError, match=r"weight is torch.bfloat16: .* float32"):
        tenfold.learner(model, torch.optim.SGD(model.parameters()), syncer="h:1", name="a", batch=1, token="x")


def test_a_state_of_another_model_is_not_taken() -> None:
    model, optimizer = small_model()
    parameters = dict(model.named_parameters())
    state = OptimizerState({id(p): name for name, p in parameters.items()}, parameters, optimizer)
    good = {"0.weight/exp_avg": torch.ones(8, 3), "0.weight/step": torch.tensor(3.0)}
    shape, name, number = torch.ones(3, 8), torch.ones(()), torch.full((8,), math.nan)
    for bad in ({"0.weight/exp_avg": shape}, {"9.weight/step": name}, {"0.bias/x": number}):
        with pytest.raises(tenfold.TenfoldError, match="inner state"):
            state.load(good | bad)
        assert not optimizer.state
    state.load(good)
    assert {name: tensor.tolist() for name, tensor in state.tensors().items()} == {
        name: tensor.tolist() for name, tensor in good.items()
    }


def parts(founder: str, value: float) -> list[tuple[FoundingPart, bytes]]:
    shapes = {"a": (2, 3), "b": (4,)}
    sizes = {fragment.index: fragment.size for fragment in cut_model(shapes, 2)}
    return [
        (
            FoundingPart(founder=founder, index=index, shapes=shapes, config={}, batch=2),
            torch.full((size,), value).numpy().tobytes(),
        )
        for index, size in sizes.items()
    ]


def give(founding: Founding, part: FoundingPart, data: bytes) -> None:
    founding.admit(part_key(part), part.to_json(), len(data))
    founding.receive(part_key(part), part.to_json(), memoryview(data))


def test_of_two_that_found_a_run_at_once_one_brings_all_of_the_model(tmp_path: Path) -> None:
    founding = Founding(tmp_path, 2)
    one, two = parts("one", 1.0), parts("two", 2.0)
    give(founding, *one[0])
    give(founding, *two[0])
    give(founding, *two[1])
    with pytest.raises(Refused, match="the run has a model; join it"):
        give(founding, *one[1])
    for opened in (founding, Founding(tmp_path, 2)):
        assert opened.founded is not None
        fragments = opened.cut(opened.founded.shapes)
        assert [opened.initial(fragment).unique().tolist() for fragment in fragments] == [[2.0], [2.0]]


@pytest.mark.parametrize(
    "changed", [{"index": 2}, {"shapes": {}}, {"shapes": {"a": [2**40]}}, {"batch": 0}, {"founder": ""}, {"x": 1}]
)
def test_what_is_no_part_of_a_model_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    founding = Founding(tmp_path, 2)
    part, data = parts("one", 1.0)[0]
    header = part.to_json() | changed
    key = f"founding/{header['founder']}/{header['index']}"
    with pytest.raises(Refused):
        founding.admit(key, header, len(data))
