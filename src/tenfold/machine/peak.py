"""Peak of the matrix products, measured here and remembered: what MFU is a share of."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from tenfold.machine.identity import device_name

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
    known = _read_cache().get(key, 0.0)
    if again or not known:
        known = max(known, _measure(device, threads, dtype))
        _write_cache(_read_cache() | {key: known})
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


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tenfold" / "peak.json"


def _read_cache() -> dict[str, float]:
    try:
        value = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_cache(known: dict[str, float]) -> None:
    """Whole or not at all; a home that cannot be written only means measuring again next time."""
    path = _cache_file()
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return
