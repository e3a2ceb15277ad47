"""The typed schema of a cluster's TOML file. Every unit is in the name of its key."""

from typing import Annotated

from pydantic import AfterValidator, Field

from tenfold.config.base import Section

SMALLEST, LARGEST = 1e-9, 1e12
"""In the units of the keys: beyond any machine, and far enough from where floating point ends."""


def _not_tiny(value: float) -> float:
    if value < SMALLEST:
        raise ValueError(f"input should be at least {SMALLEST:g}")
    return value


Count = Annotated[int, Field(gt=0, le=10**9)]
Positive = Annotated[float, Field(gt=0, le=LARGEST), AfterValidator(_not_tiny)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(gt=0, le=100), AfterValidator(_not_tiny)]
Ratio = Annotated[float, Field(ge=1, le=1e6)]
Name = Annotated[str, Field(min_length=1)]


class DeviceSection(Section):
    """[device]: an accelerator with figures of your own, in place of `accelerator`."""

    name: Name
    """What it is called."""
    vendor: str = ""
    """Who makes it."""
    announced: bool = False
    """Whether the figures are only promised: results are then marked as scenarios."""
    fp32_tflops: Positive | None = None
    """Dense peak in fp32. Give the peak of at least one precision."""
    fp16_tflops: Positive | None = None
    """Dense peak in fp16, sums in fp32."""
    bf16_tflops: Positive | None = None
    """Dense peak in bf16."""
    fp8_tflops: Positive | None = None
    """Dense peak in fp8."""
    fp4_tflops: Positive | None = None
    """Dense peak in fp4."""
    achieved_fp32_percent: Share | None = None
    """Share of the peak that the best large matrix product reaches, where it was measured."""
    achieved_fp16_percent: Share | None = None
    """The same in fp16."""
    achieved_bf16_percent: Share | None = None
    """The same in bf16."""
    achieved_fp8_percent: Share | None = None
    """The same in fp8."""
    achieved_fp4_percent: Share | None = None
    """The same in fp4."""
    memory_gb: Positive
    """Memory of one device, 10^9 bytes."""
    memory_gb_per_s: Positive
    """Bandwidth of that memory."""
    link: Name
    """Name of the scale-up link; names that start with NVLink, PCIe or ICI get that link's latency."""
    link_gb_per_s: Positive
    """Of one device over the scale-up link, in each direction."""
    domain_devices: Count
    """Devices that the scale-up link can join."""
    nic_gb_per_s: NotNegative = 0.0
    """Network bandwidth of one device in each direction; 0 where there is none."""
    power_w: NotNegative = 0.0
    """Power of one device; 0 where it is not known."""
    source: str = ""
    """Where the figures are from."""
    notes: str = ""
    """What else a reader should know."""


class TierSection(Section):
    """[[tiers]]: the network level by level, from the scale-up domain outwards; the last spans the largest site."""

    name: Name
    """What the level is called."""
    devices: Count
    """Devices that one unit of this level joins: a multiple of the level before."""
    bandwidth_gb_per_s: Positive
    """Of one device in each direction, before oversubscription."""
    oversubscription: Ratio = 1.0
    """Bandwidth below the uplinks of a unit over theirs; 1 is non-blocking."""
    latency_us: NotNegative
    """Of one message between two devices that only this level joins."""


class SiteSection(Section):
    """[[sites]]: places that hold some of the devices each. Without any, all are in one place."""

    name: Name
    """What the place is called."""
    devices: Count
    """Devices there; all sites together hold `devices`."""


class BetweenSitesSection(Section):
    """[between_sites]: what joins the sites."""

    bandwidth_gb_per_s: Positive
    """Of a whole site in each direction."""
    latency_ms: NotNegative
    """One way. Light in fibre takes 4.9 µs/km."""


class ClusterSection(Section):
    """A cluster: devices, what joins them, sites, storage, price and power."""

    name: Name
    """What the cluster is called in reports."""
    accelerator: str | None = None
    """Device type, by a name or alias of docs/hardware.md. Give this or [device]."""
    devices: Count
    """How many there are, all sites together."""
    node_devices: Count | None = None
    """Devices of one host, which fail together. Default: as many as the accelerator's usual host has
    (with [device] 8, or the domain where that is smaller) and as divides every site."""
    domain_devices: Count | None = None
    """Devices that the scale-up link joins. Default: as many as it can and as divides every site. Not with [[tiers]],
    whose first level says it."""
    fabric: str | None = None
    """Network above the scale-up domain, by a name of docs/hardware.md. Default: one non-blocking network. Not with
    [[tiers]]."""
    host_memory_gb: NotNegative | None = None
    """Memory of one host, 10^9 bytes; 0 where it is not known. Default: that of the accelerator's usual host."""
    storage_gb_per_s: Positive | None = None
    """What all devices together can write to checkpoints. Default: 1 GB/s a host."""
    price_dollars_per_device_hour: NotNegative = 0.0
    """Price of one device for an hour; 0 shows no costs."""
    power_usage_effectiveness: Ratio = 1.1
    """Power of the site over power of its devices."""
    device: DeviceSection | None = None
    tiers: list[TierSection] = Field(default_factory=list)
    sites: list[SiteSection] = Field(default_factory=list)
    between_sites: BetweenSitesSection | None = None
