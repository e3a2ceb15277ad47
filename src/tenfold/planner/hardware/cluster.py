"""A cluster: devices, what joins them tier by tier, sites, storage, price and power."""

from dataclasses import dataclass

from tenfold.planner.hardware.accelerator import Accelerator


@dataclass(frozen=True)
class Tier:
    """One level of the network. The first is the scale-up domain, the last spans one site."""

    name: str
    devices: int
    """Devices that one unit of this tier joins; each tier's number is a multiple of the one before."""
    bandwidth: float
    """Bytes/s of one device in each direction, before oversubscription."""
    oversubscription: float
    """Bandwidth below a unit's uplinks over theirs; 1 is non-blocking."""
    latency: float
    """Seconds of one message between two devices that only this tier joins."""

    @property
    def usable_bandwidth(self) -> float:
        """Bytes/s of one device when all of a unit send through this tier at once."""
        return self.bandwidth / self.oversubscription


@dataclass(frozen=True)
class Site:
    """Some of the devices in one place. Sites are joined by `Wide`."""

    name: str
    devices: int


@dataclass(frozen=True)
class Wide:
    """What joins the sites: bytes/s of a whole site in each direction, and seconds one way."""

    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Cluster:
    """A machine to plan for. `tiers` go from the scale-up domain outwards; `wide` is None with one site."""

    name: str
    accelerator: Accelerator
    devices: int
    node_devices: int
    """Devices of one host, which fail together."""
    tiers: tuple[Tier, ...]
    sites: tuple[Site, ...]
    wide: Wide | None
    host_memory_bytes: float
    """Of one node; 0 where it is not known."""
    storage_bandwidth: float
    """Bytes/s that all devices together can write to checkpoints."""
    price_per_device_hour: float
    """In dollars; 0 when not given, and then no costs are shown."""
    power_usage_effectiveness: float
    """Power of the site over power of its devices."""

    @property
    def nodes(self) -> int:
        """Hosts."""
        return self.devices // self.node_devices
