"""The dtype of the matrix products: decided by what the device has in hardware, never by a clock."""

from pathlib import Path
from typing import Literal

import torch

# avx512_bf16 alone does not count: without AMX its matrix products run no faster than float32 ones.
BF16_FLAGS = {"amx_bf16", "bf16"}  # the second is what Arm's kernels call it


def choose_compute_dtype(device: torch.device, setting: Literal["auto", "bf16", "float32"]) -> torch.dtype:
    """bf16 where asked for or fast, float32 otherwise."""
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
