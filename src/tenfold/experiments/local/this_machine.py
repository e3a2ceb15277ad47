"""The machine at hand as a cluster, from what `tenfold doctor` measured."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tenfold.core import InputError
from tenfold.planner import PRECISIONS, Accelerator, Cluster, Precision, Site, Tier, accelerator, link_latency

if TYPE_CHECKING:
    from tenfold.machine import MachineDescription

DIGITS = 3
"""Of a measured figure: more than a repeated measurement agrees on."""
DTYPES: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
MEASURED = "measured on this machine by `tenfold doctor`"
COPY_BYTES = 2**30
PCIE4_BANDWIDTH = 32e9
"""Bytes/s of 16 lanes in each direction: what joins GPUs that the table does not have."""


def describe_local(machine: "MachineDescription") -> Cluster:
    """One host: its GPUs, or the CPU with all its cores as one device.

    A CPU's peak is the best matrix product measured, whatever a data sheet would say: bf16 on a CPU without units for
    it shows as slow as it is. A GPU that the table has keeps its data sheet's peak beside the share that was measured.
    """
    gpus = machine.environment["gpus"]
    device = _gpu(gpus[0], machine, len(gpus)) if gpus else _cpu(machine)
    count = max(1, len(gpus))
    latency = link_latency(device.link) if gpus else 0.0
    return Cluster(
        name=f"this machine: {count} x {device.name}" if gpus else f"this machine: {device.name}",
        accelerator=device,
        devices=count,
        node_devices=count,
        tiers=(Tier(device.link, count, device.link_bandwidth, 1.0, latency),),
        sites=(Site("site", count),),
        wide=None,
        host_memory_bytes=float(machine.memory_bytes),
        storage_bandwidth=_rounded(machine.disk_write_bandwidth),
        price_per_device_hour=0.0,
        power_usage_effectiveness=1.0,
    )


def _cpu(machine: "MachineDescription") -> Accelerator:
    peaks = _peaks(machine)
    bandwidth = _rounded(machine.memory_bandwidth)
    return Accelerator(
        name=machine.environment["cpu"],
        vendor="",
        announced=False,
        peak_flops=peaks,
        achievable=dict.fromkeys(peaks, 1.0),
        memory_bytes=float(machine.memory_bytes),
        memory_bandwidth=bandwidth,
        link="memory",
        link_bandwidth=bandwidth,
        domain_devices=1,
        nic_bandwidth=0.0,
        power_watts=0.0,
        source=MEASURED,
        notes=f"{machine.environment['cores']} cores, {machine.environment['instruction_set']}",
    )


def _gpu(name: str, machine: "MachineDescription", count: int) -> Accelerator:
    """All GPUs are taken to be like the first."""
    import torch  # here, so that planning for another machine starts at once

    memory = float(torch.cuda.get_device_properties(0).total_memory)
    try:
        return as_measured(accelerator(name), _peaks(machine), memory)
    except InputError:
        return _unknown_gpu(name, _peaks(machine), memory, count)


def as_measured(known: Accelerator, measured: Mapping[Precision, float], memory_bytes: float) -> Accelerator:
    """`known` with the memory there is and the share of its peaks that `measured` FLOP/s are."""
    shares = {kind: flops / known.peak_flops[kind] for kind, flops in measured.items() if kind in known.peak_flops}
    return replace(
        known,
        achievable={**known.achievable, **{kind: _rounded(min(1.0, share)) for kind, share in shares.items()}},
        memory_bytes=memory_bytes,
        source=f"{known.source}; {MEASURED}",
    )


def _unknown_gpu(name: str, peaks: dict[Precision, float], memory: float, count: int) -> Accelerator:
    return Accelerator(
        name=name,
        vendor="",
        announced=False,
        peak_flops=peaks,
        achievable=dict.fromkeys(peaks, 1.0),
        memory_bytes=memory,
        memory_bandwidth=_rounded(_gpu_copy_bandwidth()),
        link="PCIe4",
        link_bandwidth=PCIE4_BANDWIDTH,
        domain_devices=count,
        nic_bandwidth=0.0,
        power_watts=0.0,
        source=MEASURED,
        notes="link assumed, not measured",
    )


def _peaks(machine: "MachineDescription") -> dict[Precision, float]:
    """In the order of PRECISIONS."""
    measured = {DTYPES[dtype]: _rounded(flops) for dtype, flops in machine.peak_flops.items()}
    return {kind: measured[kind] for kind in PRECISIONS if kind in measured}


def _gpu_copy_bandwidth() -> float:
    """Bytes/s read and written, the best of several copies."""
    import torch

    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(4):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * COPY_BYTES / best


def _rounded(figure: float) -> float:
    return float(f"{figure:.{DIGITS}g}")
