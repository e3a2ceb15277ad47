"""One accelerator, as its maker and its measurers describe it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "bf16", "fp8", "fp4"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "fp8", "fp4")


@dataclass(frozen=True)
class Accelerator:
    """Figures of one device. FLOP/s are dense peaks, bytes are decimal (80e9), rates are bytes/s in each direction."""

    name: str
    vendor: str
    announced: bool
    """Whether the figures are only promised: results on it are scenarios."""
    peak_flops: Mapping[Precision, float]
    achievable: Mapping[Precision, float]
    """Share of the peak that the best large matrix product was measured to reach; empty where nobody published it."""
    memory_bytes: float
    memory_bandwidth: float
    link: str
    """Name of the scale-up link (NVLink, xGMI, ICI...)."""
    link_bandwidth: float
    domain_devices: int
    """Devices that the scale-up link joins."""
    nic_bandwidth: float
    """Of the network, for each device; 0 where there is none or nobody published it."""
    power_watts: float
    """0 where nobody published it."""
    source: str
    notes: str
