"""Measured health of a machine: arithmetic against exact answers, speeds, and what its sensors say.

Short enough for the start of a run and its idle moments. Nothing here draws from torch's random numbers or changes its
settings, so that a run is the same bits with and without.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IntArray = npt.NDArray[np.int64]

ROWS, INNER, COLUMNS = 192, 256, 160
"""Of the products with known answers: no power of two alone, so that kernels meet their edges."""
LARGEST = {"float32": 127, "bfloat16": 1}
"""Entries are integers up to this size: every partial sum in whatever order is exact, in float32 because
INNER·127² < 2²⁴, in bf16 because INNER ≤ 2⁸."""
ANSWERS = {
    "float32": "e63938f9947dcb4c05c174b12cc30133",
    "bfloat16": "3bf21a7f16be329562368811408d1279",
}
"""SHA-256 of the exact products, as little-endian int64 in rows: first half."""
SPEED_SIDE, REPEATS = 512, 3
COPY_BYTES, DISK_BYTES = 16 * 2**20, 2 * 2**20
EDAC = Path("/sys/devices/system/edac/mc")
MEMORY_ERRORS = {"ce_count": "corrected_errors", "ue_count": "uncorrected_errors"}


# Arithmetic against exact answers


@cache
def exact_product(dtype: str) -> tuple[IntArray, IntArray, IntArray]:
    """Two integer matrices and their product, [ROWS, INNER], [INNER, COLUMNS], [ROWS, COLUMNS].

    The product is computed in integers, which need no library of linear algebra, and compared with the stored digest.
    Raises ArithmeticError where this machine cannot even do that.
    """
    largest = LARGEST[dtype]
    left = _integers(ROWS * INNER, 1, largest).reshape(ROWS, INNER)
    right = _integers(INNER * COLUMNS, 2, largest).reshape(INNER, COLUMNS)
    product = np.einsum("ij,jk->ik", left, right, optimize=False)
    if hashlib.sha256(product.astype("<i8").tobytes()).hexdigest()[:32] != ANSWERS[dtype]:
        raise ArithmeticError(f"the product of two integer matrices ({dtype}) is not the stored one")
    return left, right, product


def _integers(count: int, seed: int, largest: int) -> IntArray:
    """Integers from −largest to largest, the same on every machine and version: a 64-bit linear congruence (Knuth)."""
    state = np.uint64(seed)
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) + state * np.uint64(count)
        mixed = steps * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(40)).astype(np.int64) % (2 * largest + 1) - largest


def wrong_products(device: "torch.device") -> int:
    """Elements of matrix products on a device that differ from the exact answer, in float32 and bf16.

    An integer product that is wrong itself counts as one.
    """
    import torch

    wrong = 0
    for dtype in LARGEST:
        try:
            left, right, product = exact_product(dtype)
        except ArithmeticError:
            wrong += 1
            continue
        factors = (torch.from_numpy(each).to(device, getattr(torch, dtype)) for each in (left, right))
        found = torch.matmul(*factors).cpu().to(torch.int64)
        wrong += int((found != torch.from_numpy(product)).sum())
    return wrong


def unequal_repeats(device: "torch.device") -> int:
    """Operations of which two calls on the same values gave other bits, of those that a step is made of.

    To be called first of all in a process: a race in a library's first call shows only there.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    x, w, v = (torch.randn(shape, generator=generator).to(device) for shape in ((384, 640), (640, 512), (640,)))
    calls: tuple[Callable[[], Tensor], ...] = (
        lambda: x @ w,
        lambda: w.T @ x.T,
        lambda: x @ v,
        lambda: torch.softmax(x, -1),
        lambda: torch.nn.functional.gelu(x @ w).sum(0),
    )
    return sum(not torch.equal(call(), call()) for call in calls)


# Speeds


def product_speed(device: "torch.device") -> float:
    """FLOP/s of a float32 product, the best of a few."""
    import torch

    matrix = torch.ones(SPEED_SIDE, SPEED_SIDE, device=device)
    return 2 * SPEED_SIDE**3 / _best_seconds(lambda: matrix @ matrix, device)


def memory_speed(device: "torch.device") -> float:
    """Bytes/s read and written by a copy in the device's memory, the best of a few."""
    import torch

    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _best_seconds(lambda: target.copy_(source), device)


def _best_seconds(work: Callable[[], Any], device: "torch.device") -> float:
    return min(_seconds(work, device) for _ in range(REPEATS))


def _seconds(work: Callable[[], Any], device: "torch.device") -> float:
    import torch

    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def disk_probe(folder: Path) -> tuple[float, int]:
    """Bytes/s of a synced write into a folder, and how many of its bytes came back other than they were written.

    Raises OSError where the disk refuses.
    """
    block = np.arange(DISK_BYTES // 8, dtype=np.int64).tobytes()
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-") as handle:
        start = time.perf_counter()
        handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())
        seconds = time.perf_counter() - start
        _forget(handle.fileno())
        handle.seek(0)
        back = handle.read()
    if len(back) != len(block):
        return DISK_BYTES / seconds, DISK_BYTES
    wrong = np.frombuffer(back, np.uint8) != np.frombuffer(block, np.uint8)
    return DISK_BYTES / seconds, int(np.count_nonzero(wrong))


def _forget(descriptor: int) -> None:
    """Ask the kernel to drop the file from memory, so that it is read from the disk."""
    with suppress(AttributeError, OSError):  # not on macOS, not on every file system
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def probe_machine(folder: Path, device: "torch.device", *, first: bool = False) -> dict[str, float]:
    """All probes by their metrics' names. `first`: this process has computed nothing yet, so calls are repeated.

    A disk that refuses to write has a speed of 0.
    """
    repeats = unequal_repeats(device) if first else 0
    try:
        speed, lost = disk_probe(folder)
    except OSError:
        speed, lost = 0.0, 0
    return {
        "probe/wrong": float(repeats + wrong_products(device) + lost),
        "probe/matmul": product_speed(device),
        "probe/memory": memory_speed(device),
        "probe/disk": speed,
    }


# Sensors


def read_sensors(folder: Path) -> dict[str, float]:
    """Free disk, the kernel's count of memory errors, and NVIDIA's devices, as far as there are any."""
    figures = {"disk/free": float(shutil.disk_usage(folder).free)}
    return figures | memory_errors() | nvidia_figures()


def memory_errors(root: Path = EDAC) -> dict[str, float]:
    """Errors of the machine's memory that its controllers corrected, and did not; nothing where they do not report."""
    found: dict[str, float] = {}
    for file, figure in MEMORY_ERRORS.items():
        counts = [int(text) for path in sorted(root.glob(f"mc*/{file}")) if (text := _read(path)).isdigit()]
        if counts:
            found[f"device/memory/{figure}"] = float(sum(counts))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def nvidia_figures() -> dict[str, float]:
    """Temperature, power, clock and memory errors of each NVIDIA device; nothing without driver or package."""
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        return dict(figure for place in range(pynvml.nvmlDeviceGetCount()) for figure in _figures_of(pynvml, place))
    finally:
        pynvml.nvmlShutdown()


def _figures_of(nvml: Any, place: int) -> Iterator[tuple[str, float]]:
    """What one device says; what it does not know is left out."""
    handle = nvml.nvmlDeviceGetHandleByIndex(place)
    volatile = nvml.NVML_VOLATILE_ECC
    readings: dict[str, Callable[[], float]] = {
        "temperature": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "clock": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "throttled": lambda: float(_slowed(nvml, handle)),
        "corrected_errors": lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, volatile
        ),
        "uncorrected_errors": lambda: nvml.nvmlDeviceGetTotalEccErrors(
            handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, volatile
        ),
    }
    for figure, reading in readings.items():
        with suppress(nvml.NVMLError):
            yield f"device/{place}/{figure}", float(reading())


def _slowed(nvml: Any, handle: Any) -> bool:
    """Whether heat or power hold the clocks down."""
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    held = nvml.nvmlClocksThrottleReasonHwSlowdown | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
    return bool(reasons & held)
