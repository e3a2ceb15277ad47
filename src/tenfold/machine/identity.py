"""What this machine is, as far as the bits of a result depend on it, and what this process holds of its memory."""

import math
import os
import platform
import resource
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

# avx512_bf16 alone does not count: without AMX its matrix products run no faster than float32 ones.
BF16_FLAGS = {"amx_bf16", "bf16"}  # the second is what Arm's kernels call it


def usable_cores() -> int:
    """Physical cores this process may use; hyper-threads do not make matrix products faster."""
    try:
        cores = len({_siblings(core) for core in os.sched_getaffinity(0)})
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return max(1, min(cores, _container_cores()))


def _container_cores(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores a container's quota allows, rounded up; no limit where none is set."""
    try:
        quota, period = path.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return sys.maxsize


def _siblings(core: int) -> str:
    """The hyper-threads that share a core with this one; the core itself where the kernel does not say."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(core)


@cache
def has_cpp_compiler() -> bool:
    """Whether torch.compile can build CPU kernels here: tried on the smallest program that needs what they need."""
    program = "#include <Python.h>\n#include <omp.h>\nint main() { return omp_get_max_threads() < 0; }"
    compiler = next(filter(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++")), None)
    if compiler is None:
        return False
    command = [compiler, "-x", "c++", "-fopenmp", "-fsyntax-only", f"-I{sysconfig.get_path('include')}", "-"]
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    return done.returncode == 0


def numerics_fingerprint(
    device: torch.device, threads: int, dtype: torch.dtype, compiled: bool
) -> dict[str, str | int | bool]:
    """What bit-for-bit equality depends on besides config, data and code."""
    return {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "device": device_name(device),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "compute_dtype": str(dtype).removeprefix("torch."),
        "compiled": compiled,
    }


def device_name(device: torch.device) -> str:
    """The chip: a GPU's name, or the CPU's model."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return cpu_name()


@cache
def cpu_name() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def environment() -> dict[str, Any]:
    """For the report: what a reader needs to judge the figures."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.release()}",
    }


STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes() -> int:
    """Bytes of physical memory this process holds now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most it has held since it began, or since `forget_peak`.

    Linux keeps this figure for the program that runs, in VmHWM; getrusage's also counts the process that started it.
    """
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def forget_peak() -> None:
    """Let the peak begin anew, where the kernel can (Linux: proc(5), clear_refs)."""
    with suppress(OSError):
        RESET.write_text("5")


def choose_compute_dtype(device: torch.device, setting: Literal["auto", "bf16", "float32"]) -> torch.dtype:
    """The dtype of matrix products: bf16 where asked for or fast, float32 otherwise.

    Decided by what the device has in hardware, never by a clock: a resumed run must decide the same.
    """
    if setting != "auto":
        return torch.bfloat16 if setting == "bf16" else torch.float32
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bf16()
    return torch.bfloat16 if fast else torch.float32


def _cpu_has_bf16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool(BF16_FLAGS & set(flags.split()))
