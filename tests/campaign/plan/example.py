"""A plan of Llama-3.1-405B on 16,384 H100: layouts forecast by the cost model, the rest made up."""

import math
from dataclasses import replace

from tenfold.campaign.plan.build import asked_of, fleet_lines, planned
from tenfold.pages.plan import Asked, FleetLine, Front, FrontPoint, Lever, Plan, Planned, Sensitivity
from tenfold.planner.calibration.calibrated import MOST_MEASURED, shipped_calibration
from tenfold.planner.cost.device import Device, Hop
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.cost.memory import memory_bytes
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.fleet.curves import CurvePoint, FleetCurves
from tenfold.planner.fleet.result import Interval
from tenfold.planner.fleet.run import Mode
from tenfold.planner.hardware.cluster import Cluster, default_cluster
from tenfold.planner.search.layouts import Choice

LLAMA = Shape(126, 16384, 128, 8, 128, 53248, 3, 128256, 8192)
SEQUENCES = 2048
FRAMEWORK = "megatron-core"
LAYOUTS = (
    Layout(8, 16, 64, 1, 32, context=2, zero_bubble=1, sharding=2),
    Layout(16, 8, 128, 1, 16, zero_bubble=1, sharding=2),
    Layout(8, 16, 32, 1, 64, context=4, interleaving=4),
    Layout(8, 32, 32, 1, 64, context=2),
    Layout(16, 8, 128, 1, 16, interleaving=2, recomputation=2, sharding=2),
    Layout(4, 8, 128, 1, 16, context=4, interleaving=4, recomputation=2, sharding=2),
)


def device_of(cluster: Cluster) -> Device:
    peak = cluster.accelerator.peak_flops["bf16"]
    hops = tuple(Hop(tier.devices, tier.usable_bandwidth, tier.latency) for tier in cluster.tiers)
    return Device(peak, peak, cluster.accelerator.memory_bandwidth, hops)


def found(layout: Layout, cluster: Cluster, shape: Shape = LLAMA) -> Choice:
    """The cost model's forecast with the shipped calibration."""
    calibrated = shipped_calibration()
    constants = calibrated.constants(FRAMEWORK, cluster.accelerator)
    time = step_seconds(shape, layout, device_of(cluster), constants)
    seconds, devices = float(time.total), float(layout.devices)
    width = math.exp(calibrated.half_width(FRAMEWORK, devices))
    rate = float(layout.sequences * shape.context) / seconds
    mfu = float(shape.training_flops_per_token) * rate / (devices * cluster.accelerator.peak_flops["bf16"])
    return Choice(
        layout=layout,
        seconds=seconds,
        low=seconds / width,
        high=seconds * width,
        memory=memory_bytes(shape, layout, calibrated.memory_constants("megatron-core")),
        time=time,
        tokens_per_second=rate,
        mfu=mfu,
        hfu=mfu,
        chance_to_fit=0.8,
        extrapolation=devices > MOST_MEASURED,
    )


def llama_layouts() -> tuple[Planned, ...]:
    """The fastest first."""
    cluster = default_cluster("H100-SXM", 16384)
    return tuple(
        planned(each) for each in sorted((found(layout, cluster) for layout in LAYOUTS), key=lambda f: f.seconds)
    )


def llama_asked() -> Asked:
    return asked_of(default_cluster("H100-SXM", 16384), "Llama-3.1-405B", LLAMA, SEQUENCES, "bf16")


def made_up_fleet() -> tuple[FleetLine, ...]:
    """Losses that grow with the fleet, by a rule of thumb."""
    sizes = [1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000, 10_000_000]
    hurt: dict[Mode, float] = {"synchronous": 1 / 120_000, "elastic": 1 / 900_000, "semi-synchronous": 1 / 40_000_000}

    def point(size: int, rate: float) -> CurvePoint:
        mean = 0.97 / (1 + size * rate)
        return CurvePoint(size, Interval(mean, mean * 0.95, min(mean * 1.05, 1)), 3600.0, size > MOST_MEASURED)

    return fleet_lines(FleetCurves({mode: tuple(point(size, rate) for size in sizes) for mode, rate in hurt.items()}))


def made_up_front() -> Front:
    points = [
        FrontPoint(name, days, loss, loss - 0.012, loss + 0.012, best)
        for name, days, loss, best in [
            ("70B, 15T tokens", 12.0, 1.92, True),
            ("140B, 12T tokens", 21.0, 1.86, True),
            ("250B, 14T tokens", 37.0, 1.82, True),
            ("405B, 15T tokens", 61.0, 1.795, True),
            ("405B, 8T tokens", 45.0, 1.85, False),
            ("70B, 30T tokens", 26.0, 1.90, False),
            ("900B, 5T tokens", 58.0, 1.86, False),
        ]
    ]
    return Front("days", "final loss, nats per token", tuple(points))


def made_up_sensitivity() -> Sensitivity:
    levers = [
        Lever("NIC bandwidth", "20% less", 0.031, "20% more", -0.021),
        Lever("NVLink bandwidth", "20% less", 0.046, "20% more", -0.034),
        Lever("device memory", "20% less", 0.012, "20% more", -0.004),
        Lever("peak FLOP/s", "20% less", 0.171, "20% more", -0.118),
        Lever("memory bandwidth", "20% less", 0.022, "20% more", -0.015),
        Lever("global batch", "20% less", 0.052, "20% more", 0.003),
    ]
    return Sensitivity("days", tuple(levers))


def llama_plan() -> Plan:
    """With every picture."""
    return Plan(
        asked=llama_asked(),
        layouts=llama_layouts(),
        front=made_up_front(),
        fleet=made_up_fleet(),
        sensitivity=made_up_sensitivity(),
        notes=("Memory binds: with 20% more the search would take micro-batches of two sequences.",),
    )


def larger(plan: Plan) -> Plan:
    """The same, said to lie beyond what was measured."""
    return replace(plan, layouts=tuple(replace(layout, extrapolation=True) for layout in plan.layouts))
