"""Rates of a device and its network, the calibrated constants, and the time of collectives.

Collectives are counted alpha-beta on the tiers that a group of ranks really crosses. A hierarchical collective works in
each tier with all devices of the tier below at once, so that every network card of a node carries its share (ring and
tree algorithms of NCCL do the same). Sending all of V bytes to g ranks through a tier that joins r units costs
V / (ranks below) · (r − 1) / r / bandwidth, and a latency that grows with log2 r.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from tenfold.planner.cost.layout import Numbers


@dataclass(frozen=True)
class Constants:
    """Calibrated constants, all positive. One number, or an array with one for each run."""

    matmul_efficiency: Numbers
    """Share of the dense peak that a large matrix product reaches."""
    matmul_half: Numbers
    """A product with one dimension this long takes twice its time at full efficiency."""
    low_precision: Numbers
    """Share of the nominal gain of 8 and 4 bit products that is left after quantising."""
    memory_efficiency: Numbers
    """Share of the memory bandwidth that elementwise kernels reach."""
    elementwise: Numbers
    """Times that a layer's activations go through memory outside of matrix products, forward."""
    attention_efficiency: Numbers
    """Share of the peak that fused attention reaches."""
    context_attention: Numbers
    """Attention of a split context over what an even share would take: 1 where each rank has as much of the causal mask
    as the others (zigzag), near 2 where the last has the most; kernels over blocks are slower, too."""
    scores: Numbers
    """Times that unfused attention scores go through memory, forward."""
    routing: Numbers
    """Times that a token goes through memory for each expert it is sent to."""
    launch: Numbers
    """Seconds that the host needs to launch the kernels of one layer's pass (forward; backward counts two)."""
    expert_launch: Numbers
    """Seconds more of a pass through a layer with experts: routing, permuting, many small products."""
    collective_launch: Numbers
    """Seconds that the host needs for each collective in a layer."""
    pipeline_collective: Numbers
    """Seconds for each rank of a tensor-parallel group that a collective waits for hosts while a pipeline runs."""
    link_efficiency: Numbers
    """Share of the scale-up bandwidth that collectives reach."""
    network_efficiency: Numbers
    """Share of the network bandwidth that collectives reach."""
    latency: Numbers
    """Time of a collective's stage whatever its bytes over one message's latency: ranks wait for each other, too."""
    tensor_exposed: Numbers
    """Share of tensor-parallel communication that nothing hides."""
    context_exposed: Numbers
    expert_exposed: Numbers
    data_exposed: Numbers
    """Share of the gradients' reduction that nothing hides."""
    shard_exposed: Numbers
    """Share of the smaller of computing and gathering sharded weights that is not hidden behind the larger."""
    pipeline_send: Numbers
    """Sends between stages over the time that their bytes need."""
    pipeline_launch: Numbers
    """Seconds of a send between stages however small: kernels, and the host where it waits for them."""
    head: Numbers
    """Times that logits (4 bytes each) go through memory, forward and backward."""
    optimizer_bytes: Numbers
    """Bytes that the optimizer moves for each parameter it updates."""
    step_seconds: Numbers
    """Of every step: data, logging, host."""
    scale_loss: Numbers
    """Share by which a step gets longer with each doubling of the devices beyond 8: jitter and stragglers."""
    slowness: Numbers
    """Everything that this framework on this site does slower than counted."""


CONSTANT_NAMES: tuple[str, ...] = tuple(each.name for each in fields(Constants))


@dataclass(frozen=True)
class Hop:
    """One tier of the network: devices it joins, usable bytes/s of a device in each direction, seconds of a message."""

    devices: Numbers
    bandwidth: Numbers
    latency: Numbers


@dataclass(frozen=True)
class Device:
    """Rates of one device. `hops` go from the scale-up domain outwards; the last joins all devices of a site."""

    matmul_flops: Numbers
    """Dense peak FLOP/s in the precision of the matrix products."""
    attention_flops: Numbers
    """Dense peak FLOP/s in the precision of attention, which stays at 16 bits, as do embeddings and logits."""
    memory_bandwidth: Numbers
    hops: tuple[Hop, ...]


def gather_seconds(volume: Numbers, size: Numbers, stride: Numbers, device: Device, constants: Constants) -> Numbers:
    """All-gather (or reduce-scatter) of `volume` bytes, counted whole, over `size` ranks that lie `stride` apart."""
    seconds: Numbers = 0.0
    for units, below, bandwidth, latency in crossed(size, stride, device, constants):
        seconds = seconds + volume / below * (1 - 1 / units) / bandwidth + latency * np.log2(units)
    return seconds


def dispatch_seconds(
    volume: Numbers, copies: Numbers, size: Numbers, stride: Numbers, device: Device, constants: Constants
) -> Numbers:
    """Each token sent to `copies` ranks drawn from `size`; `volume` bytes is what one rank holds of them.

    A token crosses a tier once for each unit that it is needed in, and is copied there (DeepEP; DeepSeek-V3, arXiv
    2412.19437, section 3.2.2): of r units it reaches r · (1 − (1 − 1/r)^copies), and its own costs nothing.
    """
    seconds: Numbers = 0.0
    for units, _, bandwidth, latency in crossed(size, stride, device, constants):
        reached = (units - 1) * (1 - (1 - 1 / units) ** copies)
        seconds = seconds + volume * reached / bandwidth + latency * np.log2(units)
    return seconds


def neighbour_bandwidth(stride: Numbers, device: Device, constants: Constants) -> Numbers:
    """Bytes/s between two ranks `stride` apart."""
    first, *rest = device.hops
    bandwidth = first.bandwidth * constants.link_efficiency
    below = first.devices
    for hop in rest:
        bandwidth = np.where(np.asarray(stride) >= below, hop.bandwidth * constants.network_efficiency, bandwidth)
        below = hop.devices
    return bandwidth


def crossed(
    size: Numbers, stride: Numbers, device: Device, constants: Constants
) -> Iterator[tuple[Numbers, Numbers, Numbers, Numbers]]:
    """For each tier: units it joins, ranks below one of them, usable bandwidth, seconds of a message."""
    below: Numbers = 1.0
    for number, hop in enumerate(device.hops):
        last = number == len(device.hops) - 1
        inside = size if last else np.minimum(np.maximum(np.floor(hop.devices / stride), 1.0), size)
        inside = np.maximum(inside, below)
        efficiency = constants.link_efficiency if number == 0 else constants.network_efficiency
        yield inside / below, below, hop.bandwidth * efficiency, hop.latency * constants.latency
        below = inside
