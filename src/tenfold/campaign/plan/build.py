"""From what the planner computed to a page's plain values."""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tenfold.core import short, write_text
from tenfold.pages import (
    Asked,
    FleetLine,
    FleetPoint,
    Front,
    FrontPoint,
    Lever,
    Plan,
    Planned,
    Recomputation,
    Sensitivity,
)
from tenfold.planner import (
    RECOMPUTATIONS,
    Choice,
    Cluster,
    Layout,
    MachineLever,
    Memory,
    Numbers,
    Shape,
    StepTime,
    shipped_calibration,
)

if TYPE_CHECKING:  # a plan of layouts starts without what goals and fleets need
    from tenfold.planner import CurvePoint, Design, FleetCurves, GoalPlan, Job

OWN = "tenfold"
"""The framework that a campaign trains with."""


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


def fleet_lines(curves: "FleetCurves") -> tuple[FleetLine, ...]:
    """Curves by mode. Means of few replicas may lie at an end of their interval, and rounding puts them outside it."""
    return tuple(
        FleetLine(mode, tuple(_fleet_point(point) for point in of_mode)) for mode, of_mode in curves.points.items()
    )


def _fleet_point(point: "CurvePoint") -> FleetPoint:
    mean, low, high = (
        min(max(float(v), 0.0), 1.0) for v in (point.goodput.mean, point.goodput.low, point.goodput.high)
    )
    return FleetPoint(int(point.devices), mean, min(low, mean), max(high, mean))


def sensitivity_of(levers: Sequence[MachineLever]) -> Sensitivity:
    """What the days of a fixed number of tokens depend on."""
    return Sensitivity("days", tuple(_lever(lever) for lever in levers))


def _lever(lever: MachineLever) -> Lever:
    return Lever(
        name=lever.what,
        worse_setting=lever.worse.change.replace("-", "−"),
        worse=_finite(lever.worse.days),
        better_setting=lever.better.change.replace("-", "−"),
        better=_finite(lever.better.days),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def front_of(designs: Sequence["Design"]) -> Front | None:
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


def _place(design: "Design", with_loss: bool) -> tuple[float, float, float, float]:
    """x, y and the interval of y."""
    if not with_loss or design.loss is None:
        return float(design.days), float(design.device_days), float(design.device_days), float(design.device_days)
    low, high = design.loss_interval or (design.loss, design.loss)
    return float(design.days), float(design.loss), min(float(low), design.loss), max(float(high), design.loss)


def _beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """At least as good in both, and not the same."""
    return first != second and first[0] <= second[0] and first[1] <= second[1]


def _design_name(design: "Design") -> str:
    """405B, 15T tokens."""
    parameters, tokens = (short(float(n)).replace("G", "B") for n in (design.parameters, design.tokens))
    return f"{parameters}, {tokens} tokens"


def page_of(designed: "GoalPlan") -> Plan:
    """A co-designed plan as its page shows it: layouts of the best model, the front of all, what relaxing is worth."""
    from tenfold.planner import part_with

    first, cluster = designed.best[0], designed.cluster
    used = cluster if first.devices == cluster.devices else part_with(cluster, first.devices)
    return Plan(
        asked=asked_of(used, _model_name(first), first.shape, first.sequences, designed.goal.precision),
        layouts=tuple(planned(each) for each in designed.layouts),
        front=front_of(designed.front),
        sensitivity=_relaxed(designed),
        notes=designed.notes,
    )


def _relaxed(designed: "GoalPlan") -> Sensitivity | None:
    """Days (or dollars) that the same result takes with each limit relaxed."""
    outcome = "dollars" if designed.goal.aim == "cost" else "days"
    levers = [
        Lever(one.limit.name, "", None, one.limit.change, -one.saved) for one in designed.worth if one.saved is not None
    ]
    return Sensitivity(outcome, tuple(levers)) if levers else None


def _model_name(design: "Design") -> str:
    shape = design.shape
    return f"{design.parameters / 1e9:.3g}B ({shape.layers:g} layers of {shape.width:g})"


def write_settings(job: "Job", to: Path) -> list[str]:
    """Write a planned job as settings of tenfold, torchtitan and Megatron-LM; one line says so."""
    from tenfold.planner import campaign_sections, megatron_text, torchtitan_toml

    texts = {
        "campaign.toml": campaign_sections(job, shipped_calibration().memory_constants(OWN)),
        "torchtitan.toml": torchtitan_toml(job),
        "megatron.txt": megatron_text(job),
    }
    for name, text in texts.items():
        write_text(to / name, text)
    return [f"wrote {', '.join(str(to / name) for name in texts)}"]
