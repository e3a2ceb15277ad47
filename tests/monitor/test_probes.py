"""Measured health: right answers on this machine, wrong ones found, sensors read as the kernel writes them."""

import importlib.util
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from tenfold.ledger import metric_of
from tenfold.monitor import probes
from tenfold.monitor.health import SHARE, MachineHealth

CPU = torch.device("cpu")


def test_this_machine_multiplies_right_and_the_same_twice() -> None:
    assert probes.wrong_products(CPU) == 0 and probes.unequal_repeats(CPU) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_multiplies_right_and_the_same_twice() -> None:
    cuda = torch.device("cuda")
    assert probes.wrong_products(cuda) == 0 and probes.unequal_repeats(cuda) == 0
    assert probes.product_speed(cuda) > 1e11 and probes.memory_speed(cuda) > 1e10


@pytest.mark.parametrize("dtype", list(probes.LARGEST))
def test_the_answer_is_exact_whatever_the_order_of_the_sums(dtype: str) -> None:
    left, right, product = probes.exact_product(dtype)
    assert int(np.abs(left).max()) == int(np.abs(right).max()) == probes.LARGEST[dtype]
    largest_sum = int((np.abs(left) @ np.abs(right)).max())
    assert largest_sum < 2 ** {"float32": 24, "bfloat16": 8}[dtype] + 1  # integers up to there have no rounding
    shuffled = np.random.default_rng(0).permutation(probes.INNER)
    narrow = getattr(torch, dtype)
    total = torch.zeros(probes.ROWS, probes.COLUMNS, dtype=narrow)
    for column in shuffled.tolist():
        total += torch.from_numpy(left[:, column : column + 1]).to(narrow) * torch.from_numpy(right[column]).to(narrow)
    assert (total.to(torch.int64).numpy() == product).all()


def test_one_wrong_element_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    right_one = torch.matmul

    def flipped(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        found = right_one(left, right)
        found[3, 5] += 1 if left.dtype is torch.float32 else 0
        return found

    monkeypatch.setattr(torch, "matmul", flipped)
    assert probes.wrong_products(CPU) == 1


def test_a_processor_that_cannot_add_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    probes.exact_product.cache_clear()
    monkeypatch.setattr(probes.np, "einsum", lambda *_, **__: np.zeros((probes.ROWS, probes.COLUMNS), np.int64))
    assert probes.wrong_products(CPU) == 2
    monkeypatch.undo()
    probes.exact_product.cache_clear()
    assert probes.wrong_products(CPU) == 0


def test_a_race_in_a_first_call_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, softmax = 0, torch.softmax

    def wrong_at_first(x: torch.Tensor, dim: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return softmax(x, dim) * (1 + 2.0**-23 if calls == 1 else 1)

    monkeypatch.setattr(torch, "softmax", wrong_at_first)
    assert probes.unequal_repeats(CPU) == 1 and probes.unequal_repeats(CPU) == 0


def test_speeds_are_measured_and_the_random_numbers_of_training_stay(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    found = probes.probe_machine(tmp_path, CPU, first=True)
    assert torch.equal(torch.get_rng_state(), before) and list(tmp_path.iterdir()) == []
    assert found.pop("probe/wrong") == 0
    assert len(found) == 3 and all(value > 0 and math.isfinite(value) for value in found.values())


def test_a_disk_that_gives_other_bytes_back_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probes.disk_probe(tmp_path)[1] == 0
    real = os.fsync

    def corrupting(descriptor: int) -> None:
        real(descriptor)
        os.pwrite(descriptor, b"\xff" * 3, 4096 + 5)

    monkeypatch.setattr(probes.os, "fsync", corrupting)
    assert probes.disk_probe(tmp_path)[1] == 3


def test_a_disk_that_refuses_has_no_speed(tmp_path: Path) -> None:
    assert probes.probe_machine(tmp_path / "gone", CPU)["probe/disk"] == 0


def test_the_kernels_memory_errors_are_added_up(tmp_path: Path) -> None:
    assert probes.memory_errors(tmp_path) == {}
    for controller, corrected in (("mc0", 2), ("mc1", 3)):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "ce_count").write_text(f"{corrected}\n")
        (tmp_path / controller / "ue_count").write_text("1\n")
    expected = {"device/memory/corrected_errors": 5.0, "device/memory/uncorrected_errors": 2.0}
    assert probes.memory_errors(tmp_path) == expected


def test_what_is_measured_has_a_name_in_the_ledger(tmp_path: Path) -> None:
    figures = probes.probe_machine(tmp_path, CPU) | probes.read_sensors(tmp_path)
    assert figures["disk/free"] > 0
    assert all(metric_of(name) for name in figures)


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="needs the package nvidia-ml-py")
def test_without_a_driver_there_are_no_devices() -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert probes.nvidia_figures() == {}
        return
    assert {f"device/0/{figure}" for figure in ("temperature", "power", "clock")} <= probes.nvidia_figures().keys()


class Clock:
    """Time that passes by a second with every look at it, and as it is told."""

    at = 0.0

    def __call__(self) -> float:
        self.at += 1
        return self.at


def test_probes_come_at_the_start_and_take_no_more_than_their_share(tmp_path: Path) -> None:
    noted: list[int] = []
    clock = Clock()
    health = MachineHealth(lambda step, figures: noted.append(step), tmp_path, CPU, clock)
    health.started(7)
    for step in range(8, 3000):
        health.after_step(cast(Any, SimpleNamespace(step=step)))
    assert noted[0] == 7 and 2 <= len(noted) <= 4
    assert len(noted[1:]) <= SHARE * clock.at
