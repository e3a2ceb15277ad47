"""What the cost model has to know of a device and the network around it."""

from dataclasses import dataclass

from tenfold.planner.cost.numbers import Numbers


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
