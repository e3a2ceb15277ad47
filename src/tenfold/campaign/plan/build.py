"""From what the planner computed to the parts of a Plan.

Choices, levers, designs and points of curves are taken by what they have, so that of the planner's rooms this module
needs cost model and hardware alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Protocol, TypeVar, cast

from tenfold.core.text import short
from tenfold.pages.plan import (
    Asked,
    FleetLine,
    FleetPoint,
    Front,
    FrontPoint,
    Lever,
    Planned,
    Recomputation,
    Sensitivity,
)
from tenfold.planner.cost.layout import RECOMPUTATIONS, Layout
from tenfold.planner.cost.memory import Memory
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.cost.shape import Shape
from tenfold.planner.cost.step import StepTime
from tenfold.planner.hardware import Cluster

Mode = TypeVar("Mode", bound=str)


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
    def chance_to_fit(self) -> float:
        """In the device's memory."""

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


class Changed(Protocol):
    """One thing changed, and what that does to the days."""

    @property
    def change(self) -> str:
        """As people say it: "+20%"."""

    @property
    def days(self) -> float:
        """Relative change; infinite where nothing fits any more."""


class Pulled(Protocol):
    """One thing made better and worse, as the search's sensitivity gives it."""

    @property
    def what(self) -> str:
        """Its name."""

    @property
    def better(self) -> Changed:
        """What more of it does."""

    @property
    def worse(self) -> Changed:
        """What less of it does."""


class Designed(Protocol):
    """A model with its training, as the co-design gives it."""

    @property
    def parameters(self) -> float:
        """Of the model."""

    @property
    def tokens(self) -> float:
        """Trained on."""

    @property
    def days(self) -> float:
        """Of the training."""

    @property
    def device_days(self) -> float:
        """Of all devices."""

    @property
    def loss(self) -> float | None:
        """Forecast, in nats per token; None where it is not the aim."""

    @property
    def loss_interval(self) -> tuple[float, float] | None:
        """Around it."""


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
        chance_to_fit=float(choice.chance_to_fit),
        extrapolation=bool(choice.extrapolation),
    )


def _count(value: Numbers) -> int:
    return round(float(value))


def _recomputation(layout: Layout) -> Recomputation:
    return cast(Recomputation, RECOMPUTATIONS[_count(layout.recomputation)])


def _parts(parts: StepTime | Memory) -> dict[str, float]:
    return {each.name: float(getattr(parts, each.name)) for each in fields(parts)}


def fleet_lines(points: Mapping[Mode, Sequence[SizedGoodput]]) -> tuple[FleetLine, ...]:
    """Curves by mode. Means of few replicas may lie at an end of their interval, and rounding puts them outside it."""
    return tuple(FleetLine(mode, tuple(_fleet_point(point) for point in of_mode)) for mode, of_mode in points.items())


def _fleet_point(point: SizedGoodput) -> FleetPoint:
    mean, low, high = (
        min(max(float(v), 0.0), 1.0) for v in (point.goodput.mean, point.goodput.low, point.goodput.high)
    )
    return FleetPoint(int(point.devices), mean, min(low, mean), max(high, mean))


def sensitivity_of(levers: Sequence[Pulled]) -> Sensitivity:
    """What the days of a fixed number of tokens depend on."""
    return Sensitivity("days", tuple(_lever(lever) for lever in levers))


def _lever(lever: Pulled) -> Lever:
    return Lever(
        name=lever.what,
        worse_setting=lever.worse.change.replace("-", "−"),
        worse=_finite(lever.worse.days),
        better_setting=lever.better.change.replace("-", "−"),
        better=_finite(lever.better.days),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def front_of(designs: Sequence[Designed]) -> Front | None:
    """Loss against days; device-days against days where loss is not the aim. None without designs.

    Which of them no other beats in both is found here: a front in more goals is none in two of them.
    """
    if not designs:
        return None
    with_loss = all(design.loss is not None for design in designs)
    places = [_place(design, with_loss) for design in designs]
    points = [
        FrontPoint(_design_name(design), x, y, low, high, not any(_beats((a, b), (x, y)) for a, b, _, _ in places))
        for design, (x, y, low, high) in zip(designs, places, strict=True)
    ]
    return Front("days", "loss, nats per token" if with_loss else "device-days", tuple(points))


def _place(design: Designed, with_loss: bool) -> tuple[float, float, float, float]:
    """x, y and the interval of y."""
    if not with_loss or design.loss is None:
        return float(design.days), float(design.device_days), float(design.device_days), float(design.device_days)
    low, high = design.loss_interval or (design.loss, design.loss)
    return float(design.days), float(design.loss), min(float(low), design.loss), max(float(high), design.loss)


def _beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """At least as good in both, and not the same."""
    return first != second and first[0] <= second[0] and first[1] <= second[1]


def _design_name(design: Designed) -> str:
    """405B, 15T tokens."""
    parameters, tokens = (short(float(n)).replace("G", "B") for n in (design.parameters, design.tokens))
    return f"{parameters}, {tokens} tokens"
