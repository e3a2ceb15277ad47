"""What this machine can do, measured: the peak that MFU is a share of, and for `tenfold doctor` memory, disk and
determinism."""

import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from tenfold.core import InputError, byte_size, read_user_cache, write_user_cache
from tenfold.machine.identity import device_name, environment, has_cpp_compiler, usable_cores

PEAKS = "peak.json"  # in the user's cache
FIRST_SIDE, LAST_SIDE = 256, 16384
LONG_ENOUGH_S = 0.02  # a product that takes this long is large enough that starting it costs nothing
REPEATS = 8


@dataclass(frozen=True)
class Peak:
    """FLOP/s of the best of several square matrix products."""

    flops: float
    device: str
    threads: int
    dtype: str


def measured_peak(device: torch.device, threads: int, dtype: torch.dtype, *, again: bool = False) -> Peak:
    """The peak of this machine for products of `dtype` with `threads`, from the user's cache unless `again`.

    The best ever measured counts: a busy machine only ever makes it slower.
    """
    key = f"{device_name(device)} | {threads} | {dtype} | torch {torch.__version__}"
    known = float(read_user_cache(PEAKS).get(key, 0.0))
    if again or not known:
        known = max(known, _measure(device, threads, dtype))
        write_user_cache(PEAKS, read_user_cache(PEAKS) | {key: known})
    return Peak(known, device_name(device), threads, str(dtype).removeprefix("torch."))


def _measure(device: torch.device, threads: int, dtype: torch.dtype) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    side = FIRST_SIDE
    while side < LAST_SIDE and _seconds(side, device, dtype, repeats=3) < LONG_ENOUGH_S:
        side *= 2
    best = _seconds(side, device, dtype, REPEATS)
    torch.set_num_threads(before)
    return 2 * side**3 / best


def _seconds(side: int, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    return min(_seconds_of_product(side, device, dtype) for _ in range(repeats))


def _seconds_of_product(side: int, device: torch.device, dtype: torch.dtype) -> float:
    """Of the second of two square products: the first one wakes the device up."""
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    matrix @ matrix
    _synchronize(device)
    start = time.perf_counter()
    matrix @ matrix
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


DISK_BYTES = 64 * 2**20
COPY_BYTES = 256 * 2**20


@dataclass(frozen=True)
class MachineDescription:
    """What was measured. FLOP/s by dtype, bytes/s, bytes."""

    environment: dict[str, Any]
    peak_flops: dict[str, float]
    memory_bytes: int
    memory_bandwidth: float
    disk_write_bandwidth: float
    disk_free_bytes: int
    cpp_compiler: bool
    deterministic: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        known = self.environment
        peaks = ", ".join(f"{dtype} {flops / 1e9:,.0f} GFLOP/s" for dtype, flops in self.peak_flops.items())
        return [
            f"machine:        {known['cpu']}, {known['cores']} cores, {known['instruction_set']}",
            f"GPUs:           {', '.join(known['gpus']) or 'none'}",
            f"software:       Python {known['python']}, torch {known['torch']}, {known['system']}",
            f"peak:           {peaks}",
            f"memory:         {byte_size(self.memory_bytes)}, copies {self.memory_bandwidth / 1e9:.1f} GB/s",
            f"disk:           writes {self.disk_write_bandwidth / 1e6:,.0f} MB/s, synced; "
            f"{byte_size(self.disk_free_bytes)} free",
            f"C++ compiler:   {'yes' if self.cpp_compiler else 'no (torch.compile stays off on the CPU)'}",
            f"deterministic:  {'yes: a step run twice gave equal bits' if self.deterministic else 'NO'}",
        ]


def describe_machine(directory: Path) -> MachineDescription:
    """Measure peak, memory, disk below `directory`, determinism. Raises InputError when it cannot be written."""
    write_bandwidth = _write_bandwidth(directory)
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    peaks = {
        str(dtype).removeprefix("torch."): measured_peak(device, usable_cores(), dtype, again=True).flops
        for dtype in (torch.float32, torch.bfloat16)
    }
    return MachineDescription(
        environment=environment(),
        peak_flops=peaks,
        memory_bytes=psutil.virtual_memory().total,
        memory_bandwidth=_copy_bandwidth(),
        disk_write_bandwidth=write_bandwidth,
        disk_free_bytes=shutil.disk_usage(directory).free,
        cpp_compiler=has_cpp_compiler(),
        deterministic=_gives_equal_bits(device),
    )


def _copy_bandwidth() -> float:
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * COPY_BYTES / best  # read and written


def _write_bandwidth(directory: Path) -> float:
    block = os.urandom(DISK_BYTES)
    try:
        with tempfile.NamedTemporaryFile(dir=directory) as handle:
            start = time.perf_counter()
            handle.write(block)
            handle.flush()
            os.fsync(handle.fileno())
            return DISK_BYTES / (time.perf_counter() - start)
    except OSError as error:
        raise InputError(f"{directory}: cannot write here ({error.strerror}); name another directory") from error


def _gives_equal_bits(device: torch.device) -> bool:
    """Whether the same product and its gradient, run twice, are equal bit for bit."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 512, generator=generator).to(device).requires_grad_()
    inputs = torch.randn(2048, 512, generator=generator).to(device)

    def gradient() -> torch.Tensor:
        loss = torch.nn.functional.silu(inputs @ weight).square().mean()
        return torch.autograd.grad(loss, weight)[0]

    return torch.equal(gradient(), gradient())
