"""Time of collectives, alpha-beta on the tiers that a group of ranks really crosses.

A hierarchical collective works in each tier with all devices of the tier below at once, so that every network card of
a node carries its share (ring and tree algorithms of NCCL do the same). Sending all of V bytes to g ranks through a
tier that joins r units costs V / (ranks below) · (r − 1) / r / bandwidth, and a latency that grows with log2 r.
"""

from collections.abc import Iterator

import numpy as np

from tenfold.planner.cost.constants import Constants
from tenfold.planner.cost.device import Device
from tenfold.planner.cost.numbers import Numbers


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
