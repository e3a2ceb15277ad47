"""What two ranks must do, run by test_step.py: `ranks_program.py KIND ddp|fsdp`."""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from tenfold.train.checkpoint import Checkpointer, CheckpointState
from tenfold.train.observe import LoopRequest, Observer, Observers
from tenfold.train.optimizers import build_optimizers
from tenfold.train.ranks import Ranks, joined_ranks, replicate_model, shard_model
from tenfold.train.step import RunState, execute, train_step
from tests.train.small import batch_of, new_state, tensors_of


def shared_state(kind: str, parallel: str, ranks: Ranks) -> RunState:
    state = new_state(kind, ranks=ranks)
    model = state.root
    if parallel == "fsdp":
        shard_model(model, model.blocks, ranks)
    else:
        state.root = replicate_model(model, ranks)
    state.optimizers = build_optimizers(model, state.train.optimizer)
    return state


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("module.", ""): (t.full_tensor() if isinstance(t, DTensor) else t) for name, t in tensors.items()
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class Poison(Observer):
    """Makes a gradient NaN on the second rank alone."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def gradients_ready(self, state) -> None:
        if self.rank == 1:
            gradient = next(iter(state.root.parameters())).grad
            (gradient.to_local() if isinstance(gradient, DTensor) else gradient).view(-1)[0] = math.nan


def main() -> None:
    kind, parallel, folder = sys.argv[1:]
    torch.use_deterministic_algorithms(True)
    with joined_ranks("cpu") as ranks:
        alone, shared = new_state(kind), shared_state(kind, parallel, ranks)
        for step in range(3):
            one = execute(alone, batch_of(step))
            two = execute(
                shared,
                batch_of(step, micro_batch=2, ranks=ranks),
                request=LoopRequest(stop=ranks.rank == 1 and step == 2),
            )
            assert math.isclose(one.nats, two.nats, rel_tol=1e-5), (one, two)
            assert math.isclose(one.grad_norm, two.grad_norm, rel_tol=1e-4), (one, two)
            assert one.bytes == two.bytes and two.request.stop == (step == 2)
        before, expected = whole(tensors_of(shared)), whole(tensors_of(alone))
        for name, tensor in expected.items():
            torch.testing.assert_close(before[name], tensor, rtol=1e-3, atol=2e-4)
        saved_and_loaded(shared, ranks, before, Path(folder))
        if parallel == "fsdp":  # with DDP a gradient differs between ranks only where the hardware is broken
            bad = execute(shared, batch_of(3, ranks=ranks), Observers([Poison(ranks.rank)]))
            assert not bad.is_finite
            assert_same(whole(tensors_of(shared)), before)
        lone_nan = torch.tensor(math.nan if ranks.rank == 1 else 1.0)
        train_step(shared, batch_of(3, ranks=ranks).micro_batches, 1.0, others=[lone_nan])
        assert_same(whole(tensors_of(shared)), before)
        guarded(shared, ranks, before)
    print("all as it should be", flush=True)


def saved_and_loaded(shared: RunState, ranks: Ranks, before: dict[str, Tensor], folder: Path) -> None:
    """Two ranks save what each holds; one process alone, and two, load the same bits."""
    tensors = {name.replace("module.", ""): tensor for name, tensor in tensors_of(shared).items()}
    with Checkpointer(folder, keep_last=1, rank=ranks.rank, world_size=ranks.world_size) as checkpointer:
        checkpointer.save(CheckpointState(tensors, 3, 24, {}))
        checkpointer.wait()
        torch.distributed.barrier()
        found = checkpointer.at(3)
        assert found is not None
        alone = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
        checkpointer.load(found, alone)
        assert_same(alone, before)
        for tensor in tensors.values():
            tensor.zero_()
        checkpointer.load(found, tensors)
    assert_same(whole(tensors), before)


def guarded(shared: RunState, ranks: Ranks, before: dict[str, Tensor]) -> None:
    """The kernels' own check, as on a GPU, on tensors as the ranks hold them."""
    step = shared.optimizers.step
    shared.optimizers.step = lambda factor, finite: shared.optimizers._update(factor, finite.logical_not().float())
    lone_nan = torch.tensor(math.nan if ranks.rank == 1 else 1.0)
    train_step(shared, batch_of(3, ranks=ranks).micro_batches, 1.0, others=[lone_nan])
    assert_same(whole(tensors_of(shared)), before)
    train_step(shared, batch_of(3, ranks=ranks).micro_batches, 1.0)
    by_kernels = whole(tensors_of(shared))
    for name, tensor in whole(shared.optimizers.state_tensors()).items():
        assert not torch.equal(tensor, before[name]) or not tensor.any(), name
    for parameter, (name, tensor) in zip(shared.root.parameters(), _weights(before), strict=True):
        local = parameter.detach()
        with torch.no_grad():
            local.copy_(_as(local, tensor))
        assert name
    for name, tensor in shared.optimizers.state_tensors().items():
        tensor.copy_(_as(tensor, before[name]))
    shared.optimizers.step = step
    train_step(shared, batch_of(3, ranks=ranks).micro_batches, 1.0)
    assert_same(whole(tensors_of(shared)), by_kernels)


def _weights(tensors: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in tensors.items() if name.startswith("model/")]


def _as(like: Tensor, tensor: Tensor) -> Tensor:
    """`tensor`, whole, cut as `like` is."""
    if not isinstance(like, DTensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


if __name__ == "__main__":
    main()
