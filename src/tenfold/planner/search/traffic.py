"""What a step is made of, for the question "why": each matrix product and each collective of one layout."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tenfold.planner.calibration import Calibrated
from tenfold.planner.cost.collectives import crossed, neighbour_bandwidth
from tenfold.planner.cost.constants import Constants
from tenfold.planner.cost.device import Device
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.numbers import Numbers
from tenfold.planner.cost.shape import Shape
from tenfold.planner.cost.stages import share_out
from tenfold.planner.cost.step import product_seconds, stage_parameters
from tenfold.planner.cost.volumes import (
    context_bytes,
    device_tokens,
    expert_bytes,
    send_bytes,
    shard_bytes,
    tensor_bytes,
)
from tenfold.planner.search.layouts import Choice
from tenfold.planner.search.question import Question, constants_of, device_of
from tenfold.planner.search.sites import synchronous_seconds, wide_bandwidth


@dataclass(frozen=True)
class Product:
    """One matrix product of a layer's forward pass, on one device, at 16 bits."""

    name: str
    rows: float
    inner: float
    columns: float
    seconds: float
    efficiency: float
    """Share of the device's peak that this shape reaches."""


@dataclass(frozen=True)
class Crossing:
    """A tier that a collective goes through."""

    tier: str
    units: float
    """Of the tier below, or devices, that it joins for this collective."""
    bandwidth: float
    """Bytes/s of one device that collectives reach here."""


@dataclass(frozen=True)
class Traffic:
    """One kind of collective."""

    name: str
    operation: str
    volume: float
    """Bytes of one, counted whole."""
    ranks: float
    crossings: tuple[Crossing, ...]
    times: float
    """In one step, on the stage that all others wait for."""
    exposed: float
    """Seconds of a step that computing does not hide: the part of this name in the step's time; "sites" is part of
    `StepTime.data`."""


@dataclass(frozen=True)
class _Site:
    """One site's part of a layout, and all that its cost depends on."""

    question: Question
    shape: Shape
    layout: Layout
    device: Device
    constants: Constants

    def crossings(self, ranks: float, stride: float) -> tuple[Crossing, ...]:
        tiers = self.question.cluster.tiers
        steps = zip(tiers, crossed(ranks, stride, self.device, self.constants), strict=True)
        return tuple(
            Crossing(tier.name, float(units), float(bandwidth)) for tier, (units, _, bandwidth, _) in steps if units > 1
        )


def products(choice: Choice, question: Question, calibrated: Calibrated) -> list[Product]:
    """Matrix products of one layer; those of one expert where the shape has experts."""
    site = _site(choice, question, calibrated)
    return [_product(site, name, *sizes) for name, sizes in _sizes(site.shape, site.layout).items()]


def traffic(choice: Choice, question: Question, calibrated: Calibrated) -> list[Traffic]:
    """Every collective that the layout needs."""
    return list(_traffic(_site(choice, question, calibrated), choice))


def _site(choice: Choice, question: Question, calibrated: Calibrated) -> _Site:
    inside = replace(choice.layout, data=choice.layout.data / question.sites)
    constants = constants_of(question, calibrated)
    return _Site(question, question.shape, inside, device_of(question), constants)


def _product(site: _Site, name: str, rows: float, inner: float, columns: float) -> Product:
    seconds = float(product_seconds(rows, inner, columns, site.device, site.constants))
    reached = 2 * rows * inner * columns / seconds / float(site.device.attention_flops)
    return Product(name, rows, inner, columns, seconds, reached)


def _sizes(shape: Shape, layout: Layout) -> dict[str, tuple[float, float, float]]:
    """Rows, inner and columns by name."""
    tokens, split = float(device_tokens(shape, layout)), float(layout.tensor)
    queries = shape.heads * shape.head_dim / split
    sizes: dict[str, tuple[Numbers, Numbers, Numbers]] = {
        "queries, keys, values": (tokens, shape.width, queries * (1 + 2 * shape.kv_heads / shape.heads)),
        "attention output": (tokens, queries, shape.width),
    }
    if shape.experts:
        each, hidden = tokens * layout.expert * shape.experts_per_token / shape.experts, shape.expert_width / split
        sizes |= _mlp("one expert", each, hidden, shape)
    if shape.experts and shape.shared_experts:
        sizes |= _mlp("one shared expert", tokens, shape.expert_width / split, shape)
    if shape.dense_layers or not shape.experts:
        sizes |= _mlp("MLP", tokens, shape.mlp_width / split, shape)
    sizes["head"] = (tokens, shape.width, shape.vocabulary / split)
    return {name: (float(rows), float(inner), float(columns)) for name, (rows, inner, columns) in sizes.items()}


def _mlp(name: str, tokens: Numbers, hidden: Numbers, shape: Shape) -> dict[str, tuple[Numbers, Numbers, Numbers]]:
    return {
        f"{name} inwards": (tokens, shape.width, hidden * (shape.mlp_matrices - 1)),
        f"{name} outwards": (tokens, hidden, shape.width),
    }


def _traffic(site: _Site, choice: Choice) -> Iterator[Traffic]:
    shape, layout, time = site.shape, site.layout, choice.time
    tensor, context, data = float(layout.tensor), float(layout.context), float(layout.data)
    full = float(layout.recomputation) == 2
    stages = share_out(shape, layout)
    passes = float((stages.last if time.head > 0 else stages.fullest) * layout.accumulation)
    if tensor > 1:
        volume, times = float(tensor_bytes(shape, layout)), (6 if full else 4) * passes
        yield Traffic("tensor", "all-reduce", volume, tensor, site.crossings(tensor, 1.0), times, float(time.tensor))
    if context > 1:
        volume, times = float(context_bytes(shape, layout)), (4 if full else 3) * passes
        yield Traffic("context", "gather", volume, context, site.crossings(context, tensor), times, float(time.context))
    if layout.expert > 1:
        volume, ranks = float(expert_bytes(shape, layout)), float(layout.expert)
        times = (6 if full else 4) * passes * float(shape.expert_layers / shape.layers)
        yield Traffic("expert", "all-to-all", volume, ranks, site.crossings(ranks, tensor), times, float(time.expert))
    if layout.sharding == 3 and layout.shards > 1:
        volume, ranks, times = float(shard_bytes(shape, layout)), float(layout.shards), 3 * passes
        yield Traffic(
            "shard", "gather", volume, ranks, site.crossings(ranks, tensor * context), times, float(time.shard)
        )
    if layout.pipeline > 1:
        yield _sends(site, choice)
    if data > 1:
        yield _gradients(site, choice)
    if site.question.sites > 1:
        yield _between_sites(site)


def _sends(site: _Site, choice: Choice) -> Traffic:
    layout = site.layout
    stride = layout.tensor * layout.context * layout.data
    outside = [tier for tier in site.question.cluster.tiers[:-1] if stride >= tier.devices]
    tier = site.question.cluster.tiers[len(outside)]
    bandwidth = float(neighbour_bandwidth(stride, site.device, site.constants))
    return Traffic(
        "pipeline",
        "send",
        float(send_bytes(site.shape, layout)),
        2.0,
        (Crossing(tier.name, 2.0, bandwidth),),
        float(2 * layout.interleaving * layout.accumulation),
        float(choice.time.pipeline),
    )


def _gradients(site: _Site, choice: Choice) -> Traffic:
    """Over all data-parallel ranks; under FSDP over the groups, each of which holds its shard of the sums already."""
    layout = site.layout
    volume = float(stage_parameters(site.shape, layout, share_out(site.shape, layout)) * layout.gradient_bytes)
    ranks, stride = float(layout.data), float(layout.tensor * layout.context)
    if layout.sharding == 3:
        shards = float(layout.shards)
        volume, ranks, stride = volume / shards, ranks / shards, stride * shards
    times = float(layout.reductions)
    exposed = float(choice.time.data) - synchronous_seconds(site.question, site.constants)
    return Traffic("data", "all-reduce", volume, ranks, site.crossings(ranks, stride), times, exposed)


def _between_sites(site: _Site) -> Traffic:
    question, ranks = site.question, float(site.question.sites)
    volume = float(site.shape.parameters) * question.gradient_bytes
    crossing = Crossing("sites, all devices of one together", ranks, wide_bandwidth(question, site.constants))
    return Traffic(
        "sites", "all-reduce", volume, ranks, (crossing,), 1.0, synchronous_seconds(question, site.constants)
    )
