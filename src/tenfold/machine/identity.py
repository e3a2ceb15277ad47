"""The machine as far as the bits of a result depend on it."""

import os
import platform
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch


def usable_cores() -> int:
    """Physical cores this process may use; hyper-threads do not make matrix products faster."""
    allowed = os.sched_getaffinity(0)
    siblings = {_siblings(core) for core in allowed}
    return max(1, len(siblings))


def _siblings(core: int) -> str:
    """The hyper-threads that share a core with this one; the core itself where the kernel does not say."""
    try:
        return Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(core)


@cache
def has_cpp_compiler() -> bool:
    """Whether torch.compile can build CPU kernels here."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


def numerics_fingerprint(
    device: torch.device, threads: int, dtype: torch.dtype, compiled: bool
) -> dict[str, str | int | bool]:
    """What bit-for-bit equality depends on besides config, data and code."""
    return {
        "torch": torch.__version__,
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
