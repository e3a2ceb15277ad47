"""From what the planner computed to a Plan, and from a Plan's layouts to bars.

Choices and points of curves are taken by what they have, so that this module depends on the cost model alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Protocol, cast

from tenfold.campaign.plan.pictures import Bar, Paint
from tenfold.campaign.plan.plan import Asked, FleetLine, FleetPoint, Planned, Recomputation
from tenfold.campaign.report.marks import SOFT
from tenfold.campaign.report.scaling_charts import BLUE, GOLD, GREEN, ORANGE, PURPLE
from tenfold.planner.cost.layout import RECOMPUTATIONS, Layout
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.cost.shape import Shape
from tenfold.planner.cost.step import StepTime
from tenfold.planner.hardware import Cluster

GIGA = 1e9

TIME_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("matrix products", Paint(BLUE, 0.95), ("matmul",)),
    ("attention", Paint(BLUE, 0.62), ("attention",)),
    ("other computing", Paint(BLUE, 0.3), ("elementwise", "head", "optimizer")),
    ("tensor and context parallel", Paint(ORANGE, 0.9), ("tensor", "context")),
    ("expert parallel", Paint(ORANGE, 0.5), ("expert",)),
    ("data parallel", Paint(GOLD, 0.9), ("data", "shard")),
    ("pipeline bubble", Paint(PURPLE, 0.9), ("bubble",)),
    ("pipeline sends", Paint(PURPLE, 0.5), ("pipeline",)),
    ("stragglers", Paint(SOFT, 0.75), ("scale",)),
    ("host", Paint(SOFT, 0.4), ("launch", "fixed")),
)
"""Name, paint and parts of StepTime. Computing is blue, communication orange and gold, waiting purple and grey."""

MEMORY_GROUPS: tuple[tuple[str, Paint, tuple[str, ...]], ...] = (
    ("weights", Paint(BLUE, 0.95), ("weights",)),
    ("gradients", Paint(BLUE, 0.62), ("gradients",)),
    ("optimizer", Paint(BLUE, 0.3), ("optimizer",)),
    ("activations", Paint(GREEN, 0.9), ("activations",)),
    ("logits", Paint(GREEN, 0.5), ("logits",)),
    ("buffers", Paint(SOFT, 0.5), ("buffers",)),
)
"""Name, paint and parts of Memory."""

TIME_PAINTS = {name: paint for name, paint, _ in TIME_GROUPS}
MEMORY_PAINTS = {name: paint for name, paint, _ in MEMORY_GROUPS}


class Choice(Protocol):
    """One layout with its forecast, as the search gives it. Numbers are single ones."""

    @property
    def layout(self) -> Layout:
        """Degrees and batch."""

    @property
    def seconds(self) -> float:
        """Of one step."""

    @property
    def low(self) -> float:
        """Begin of the 90% interval."""

    @property
    def high(self) -> float:
        """Its end."""

    @property
    def memory(self) -> Memory:
        """Bytes of the fullest device."""

    @property
    def time(self) -> StepTime:
        """Seconds by part."""

    @property
    def tokens_per_second(self) -> float:
        """Of the whole cluster."""

    @property
    def mfu(self) -> float:
        """Model FLOPs over the peak."""

    @property
    def extrapolation(self) -> bool:
        """Beyond what anybody has measured."""


class Ends(Protocol):
    """A mean with its interval."""

    @property
    def mean(self) -> float:
        """The middle."""

    @property
    def low(self) -> float:
        """Begin."""

    @property
    def high(self) -> float:
        """End."""


class SizedGoodput(Protocol):
    """Goodput at one size, as the fleet's curves give it."""

    @property
    def devices(self) -> int:
        """Size of the fleet."""

    @property
    def goodput(self) -> Ends:
        """A share."""


def asked_of(cluster: Cluster, model: str, shape: Shape, sequences: int, precision: str) -> Asked:
    """The question in words and numbers. `shape` is a single one."""
    return Asked(
        cluster=cluster.name,
        accelerator=cluster.accelerator.name,
        devices=cluster.devices,
        memory_bytes=cluster.accelerator.memory_bytes,
        model=model,
        parameters=float(shape.parameters),
        context=round(float(shape.context)),
        sequences=sequences,
        precision=precision,
    )


def planned(choice: Choice) -> Planned:
    """One choice as a plan keeps it."""
    layout = choice.layout
    return Planned(
        tensor=_count(layout.tensor),
        context=_count(layout.context),
        pipeline=_count(layout.pipeline),
        data=_count(layout.data),
        expert=_count(layout.expert),
        interleaving=_count(layout.interleaving),
        zero_bubble=bool(layout.zero_bubble),
        micro_batch=_count(layout.micro_batch),
        accumulation=_count(layout.accumulation),
        recomputation=_recomputation(layout),
        sharding=_count(layout.sharding),
        seconds=float(choice.seconds),
        low=float(choice.low),
        high=float(choice.high),
        time=_parts(choice.time),
        memory=_parts(choice.memory),
        tokens_per_second=float(choice.tokens_per_second),
        mfu=float(choice.mfu),
        extrapolation=bool(choice.extrapolation),
    )


def _count(value: Numbers) -> int:
    return round(float(value))


def _recomputation(layout: Layout) -> Recomputation:
    return cast(Recomputation, RECOMPUTATIONS[_count(layout.recomputation)])


def _parts(parts: StepTime | Memory) -> dict[str, float]:
    return {each.name: float(getattr(parts, each.name)) for each in fields(parts)}


def fleet_lines(points: Mapping[str, Sequence[SizedGoodput]]) -> tuple[FleetLine, ...]:
    """Curves by mode. Means of few replicas may lie at an end of their interval, and rounding puts them outside it."""
    return tuple(FleetLine(mode, tuple(_fleet_point(point) for point in of_mode)) for mode, of_mode in points.items())


def _fleet_point(point: SizedGoodput) -> FleetPoint:
    mean, low, high = (
        min(max(float(v), 0.0), 1.0) for v in (point.goodput.mean, point.goodput.low, point.goodput.high)
    )
    return FleetPoint(int(point.devices), mean, min(low, mean), max(high, mean))


def time_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Seconds of a step by group of parts, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{seconds_text(layout.seconds)} s [{seconds_text(layout.low)}, {seconds_text(layout.high)}]",
            grouped(layout.time, TIME_GROUPS),
            (layout.low, layout.high),
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def memory_bars(layouts: Iterable[Planned]) -> list[Bar]:
    """Decimal gigabytes of the fullest device by part, in order of rank."""
    return [
        Bar(
            f"{rank}. {degrees_text(layout)}",
            batch_text(layout),
            f"{layout.memory_bytes / GIGA:.1f} GB",
            {name: size / GIGA for name, size in grouped(layout.memory, MEMORY_GROUPS).items()},
        )
        for rank, layout in enumerate(layouts, 1)
    ]


def grouped(parts: Mapping[str, float], groups: Iterable[tuple[str, Paint, tuple[str, ...]]]) -> dict[str, float]:
    """Sums of the parts that are drawn as one."""
    return {name: sum(parts.get(part, 0.0) for part in members) for name, _, members in groups}


def degrees_text(layout: Planned) -> str:
    """TP 8 · PP 16 · DP 128, without degrees that are 1; a single device is "one device"."""
    degrees = {
        "TP": layout.tensor,
        "CP": layout.context,
        "PP": layout.pipeline,
        "DP": layout.data,
        "EP": layout.expert,
    }
    return " · ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1) or "no parallelism"


def batch_text(layout: Planned) -> str:
    """Everything else that tells layouts apart."""
    words = [f"micro-batch {layout.micro_batch}"]
    words += [schedule_text(layout)] if layout.pipeline > 1 else []
    words += [f"{layout.recomputation} recomputation"] if layout.recomputation != "none" else ["no recomputation"]
    return ", ".join([*words, sharding_text(layout)])


def schedule_text(layout: Planned) -> str:
    """How micro-batches go through the pipeline; a dash where there is none."""
    if layout.pipeline == 1:
        return "–"
    base = f"{layout.interleaving} chunks" if layout.interleaving > 1 else "1F1B"
    return base if not layout.zero_bubble else "zero bubble" if base == "1F1B" else f"{base}, zero bubble"


def sharding_text(layout: Planned) -> str:
    """What each device keeps whole."""
    return {0: "nothing sharded", 1: "ZeRO-1", 2: "ZeRO-2", 3: "FSDP"}[layout.sharding]


def seconds_text(seconds: float) -> str:
    """Three digits, more from 1000 s on: 6.21, 0.0312, 1234."""
    return f"{seconds:.0f}" if seconds >= 999.5 else f"{seconds:#.3g}".rstrip(".")
