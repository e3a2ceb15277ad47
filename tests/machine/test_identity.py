"""What this machine is, and what this process holds of its memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tenfold.machine import (
    environment,
    forget_peak,
    numerics_fingerprint,
    peak_resident_bytes,
    resident_bytes,
    usable_cores,
)
from tenfold.machine.identity import _container_cores

CPU = torch.device("cpu")
LARGE = 256 * 2**20  # bytes
SLACK = 2**20  # the kernel counts in batches of pages


def test_numerics_name_what_bits_depend_on() -> None:
    one = numerics_fingerprint(CPU, 1, torch.float32, compiled=False)
    assert one != numerics_fingerprint(CPU, 2, torch.float32, compiled=False)
    assert one["torch"] == torch.__version__
    assert usable_cores() >= 1
    assert {"cpu", "cores", "torch"} <= environment().keys()


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("100000 100000", 1), ("50000 100000", 1)])
def test_a_containers_quota_is_cores_rounded_up(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert _container_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_there_is_no_limit(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000")
    assert _container_cores(tmp_path / "cpu.max") == _container_cores(tmp_path / "none") > 10**6


def test_the_peak_of_memory_stays_until_it_is_forgotten() -> None:
    forget_peak()
    before = peak_resident_bytes()
    block = np.ones(LARGE, dtype=np.uint8)
    held = resident_bytes()
    del block
    assert peak_resident_bytes() + SLACK >= held >= before + LARGE // 2
    after = resident_bytes()
    forget_peak()
    assert after <= peak_resident_bytes() + SLACK < held
