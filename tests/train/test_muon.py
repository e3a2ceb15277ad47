"""Our Muon beside torch's own, which iterates in bf16."""

import pytest
import torch

from tenfold.train.muon import TOGETHER, Muon, orthogonalise


def matrices(count: int, rows: int, columns: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(rows)
    return [torch.nn.Parameter(torch.randn(rows, columns, generator=generator)) for _ in range(count)]


def train(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], steps: int = 4) -> None:
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("shape", [(48, 48), (96, 32), (32, 96)])
def test_updates_are_torchs_own_in_bf16(shape: tuple[int, int]) -> None:
    ours, theirs = matrices(TOGETHER + 1, *shape), matrices(TOGETHER + 1, *shape)
    train(Muon(ours, torch.bfloat16, lr=0.02, weight_decay=0.1, momentum=0.95), ours)
    train(torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, momentum=0.95), theirs)
    for one, other, start in zip(ours, theirs, matrices(TOGETHER + 1, *shape), strict=True):
        moved = (other - start).norm()
        assert (one - other).norm() < 0.02 * moved  # bf16 rounds differently when matrices are multiplied together


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    found = orthogonalise(torch.stack([m.detach() for m in matrices(3, *shape)]), torch.float32)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_no_gradient_no_update() -> None:
    (parameter,) = matrices(1, 8, 8)
    before = parameter.detach().clone()
    Muon([parameter], torch.float32, lr=0.1).step()
    assert torch.equal(parameter, before)


def test_zero_gradient_stays_finite() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 6), torch.float32), torch.zeros(1, 4, 6))
