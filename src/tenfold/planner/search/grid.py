"""All layouts of a question, as grids that the cost model takes whole.

Layouts with the same data-parallel and pipeline degrees make one grid of four axes: degrees and micro-batch, sharding,
schedule of the pipeline, recomputation. Fields have one axis each, so that numpy computes what depends on one of them
only once for all the others.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tenfold.planner.cost.layout import Array, Layout, Numbers
from tenfold.planner.search.question import LayoutQuestion

Degrees = tuple[int, int, int, int]
"""Tensor, pipeline, context and data degree: one way to split a site, before the batch is split."""


@dataclass(frozen=True)
class Grid:
    """Layouts of one site that share pipeline and data degrees: shape (bases, shardings, schedules, recomputations)."""

    layout: Layout
    allowed: npt.NDArray[np.bool_]
    """Which of them the schedule can run: interleaving needs micro-batches that divide by stages."""
    sites: int

    def one(self, base: int, variant: int) -> Layout:
        """The layout at a base and a place in the flattened other axes, of all sites together."""
        place = np.unravel_index(variant, self.allowed.shape[1:])
        single = {each.name: _at(getattr(self.layout, each.name), (base, *map(int, place))) for each in fields(Layout)}
        if self.sites > 1 and single["sharding"] > 0 and not single["shard_group"]:
            single["shard_group"] = single["data"] * single["context"]
        single["data"] *= self.sites
        return Layout(**single)


def divisors(number: int) -> list[int]:
    """Divisors of `number`, in order."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return small + [number // each for each in reversed(small) if each * each != number]


def degrees(question: LayoutQuestion, refused: Counter[str]) -> list[Degrees]:
    """All degrees that divide the shape; reasons against the others are counted in `refused`."""
    shape, devices = question.shape, question.site_devices
    found = []
    for tensor in divisors(devices):
        for pipeline in divisors(devices // tensor):
            for context in divisors(devices // tensor // pipeline):
                why = _misfit(question, tensor, pipeline, context)
                if why:
                    refused[why] += 1
                else:
                    found.append((tensor, pipeline, context, devices // tensor // pipeline // context))
            if pipeline > shape.layers:
                break
        if tensor > shape.heads:
            break
    return found


def _misfit(question: LayoutQuestion, tensor: int, pipeline: int, context: int) -> str:
    """The first thing that does not divide, empty if all does. Fewer heads of keys than ranks are held twice."""
    shape = question.shape
    if shape.heads % tensor or (shape.kv_heads % tensor and tensor % shape.kv_heads):
        return "tensor does not divide the heads"
    if shape.mlp_width % tensor or shape.expert_width % tensor:
        return "tensor does not divide the MLP"
    if pipeline > shape.layers:
        return "more stages than layers"
    if shape.context % (tensor * context) or (context > 1 and shape.context % (2 * context)):
        return "tensor and context do not divide the sequence"  # a causal mask is balanced by halves
    return ""


def grids(question: LayoutQuestion, refused: Counter[str]) -> Iterator[Grid]:
    """Grids that hold every layout once. Degrees that cannot share out the batch are counted in `refused`."""
    batch = question.sequences // question.sites
    groups: dict[tuple[int, int], list[Degrees]] = {}
    for each in degrees(question, refused):
        _, pipeline, _, data = each
        if batch % data:
            refused["data does not divide the batch"] += 1
        else:
            groups.setdefault((pipeline, data), []).append(each)
    for (pipeline, data), several in groups.items():
        yield _grid(question, pipeline, data, several, batch // data)


def _grid(question: LayoutQuestion, pipeline: int, data: int, several: list[Degrees], batch: int) -> Grid:
    experts = divisors(int(question.shape.experts)) if question.experts else [1]
    bases = [
        (tensor, context, expert, micro, batch // micro)
        for tensor, _, context, _ in several
        for expert in experts
        if data % expert == 0
        for micro in divisors(batch)
    ]
    tensor, context, expert, micro, accumulation = (_axis(column, 0) for column in zip(*bases, strict=True))
    shardings = _shardings(question, data)
    schedules = _schedules(question, pipeline)
    sharding = _axis([stage for stage, _ in shardings], 1)
    interleaving = _axis([chunks for chunks, _ in schedules], 2)
    layout = Layout(
        tensor=tensor,
        pipeline=float(pipeline),
        data=float(data),
        micro_batch=micro,
        accumulation=accumulation,
        context=context,
        expert=expert,
        interleaving=interleaving,
        zero_bubble=_axis([zero for _, zero in schedules], 2),
        balanced_stages={"nanotron": 1.0, "torchtitan": 2.0}.get(question.framework, 0.0),
        sharding=sharding,
        shard_group=_axis([group for _, group in shardings], 1) * context,
        recomputation=_axis(question.recomputations, 3),
        reductions=np.where(sharding == 2, accumulation, 1.0),
        gradient_bytes=question.gradient_bytes,
        element_bytes=4.0 if question.precision == "fp32" else 2.0,
    )
    allowed = (interleaving == 1) | (np.mod(accumulation, pipeline) == 0)
    whole = (len(bases), len(shardings), len(schedules), len(question.recomputations))
    return Grid(layout, np.broadcast_to(allowed, whole), question.sites)


def _at(values: Numbers, place: tuple[int, ...]) -> float:
    if np.ndim(values) == 0:
        return float(values)
    array = np.asarray(values)
    return float(array[tuple(at if size > 1 else 0 for at, size in zip(place, array.shape, strict=True))])


def _axis(values: object, number: int) -> Array:
    """A field that varies along one of four axes."""
    shape = [1, 1, 1, 1]
    shape[number] = -1
    return np.array(values, dtype=np.float64).reshape(shape)


def _shardings(question: LayoutQuestion, data: int) -> list[tuple[int, int]]:
    """ZeRO stage and data-parallel ranks of one group; 0 for all. One rank shards nothing."""
    if data == 1:
        return [(min(question.shardings), 0)]
    stages = [(stage, 0) for stage in sorted(set(question.shardings))]
    groups = divisors(data)[1:-1] if 3 in question.shardings else []
    return stages + [(3, group) for group in groups]


def _schedules(question: LayoutQuestion, pipeline: int) -> list[tuple[int, int]]:
    """Chunks of a stage, and whether weight gradients fill the bubble: 1F1B, ZB-H1, interleaved.

    Chunks divide the layers, or the layers with embedding and head as one each, evenly.
    """
    if pipeline == 1:
        return [(1, 0)]
    plain = [(1, 0), (1, 1)] if question.has_zero_bubble else [(1, 0)]
    if not question.interleaved:
        return plain
    layers = int(question.shape.layers)
    most = (layers + 2) // pipeline
    return plain + [
        (chunks, 0)
        for chunks in range(2, most + 1)
        if layers % (pipeline * chunks) == 0 or (layers + 2) % (pipeline * chunks) == 0
    ]
