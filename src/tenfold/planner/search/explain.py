"""Why a layout takes as long as it does: each matrix product, each collective, each part of time and memory."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.cost.device import Constants, Device, crossed, gather_seconds, neighbour_bandwidth
from tenfold.planner.cost.layout import RECOMPUTATIONS, Layout, Numbers, Shape, share_out
from tenfold.planner.cost.memory import same_experts
from tenfold.planner.cost.step import (
    context_bytes,
    device_tokens,
    expert_bytes,
    product_seconds,
    send_bytes,
    shard_bytes,
    stage_parameters,
    tensor_bytes,
)
from tenfold.planner.hardware.accelerator import beside_reference
from tenfold.planner.search.layouts import Choice
from tenfold.planner.search.question import LayoutQuestion, constants_of, device_of
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

    question: LayoutQuestion
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


def products(choice: Choice, question: LayoutQuestion, calibrated: Calibrated) -> list[Product]:
    """Matrix products of one layer; those of one expert where the shape has experts."""
    site = _site(choice, question, calibrated)
    return [_product(site, name, *sizes) for name, sizes in _sizes(site.shape, site.layout).items()]


def traffic(choice: Choice, question: LayoutQuestion, calibrated: Calibrated) -> list[Traffic]:
    """Every collective of the layout."""
    return list(_traffic(_site(choice, question, calibrated), choice))


def _site(choice: Choice, question: LayoutQuestion, calibrated: Calibrated) -> _Site:
    inside = replace(choice.layout, data=choice.layout.data / question.sites)
    constants = constants_of(question, calibrated)
    return _Site(question, question.shape, inside, device_of(question), constants)


def _product(site: _Site, name: str, rows: float, inner: float, columns: float) -> Product:
    seconds = float(product_seconds(rows, inner, columns, site.device, site.constants))
    peak = float(site.device.attention_flops) / beside_reference(site.question.cluster.accelerator)
    reached = 2 * rows * inner * columns / seconds / peak
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
    tensor, context = float(layout.tensor), float(layout.context)
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
        yield Traffic("shard", "gather", volume, ranks, site.crossings(ranks, tensor), times, float(time.shard))
    if layout.pipeline > 1:
        yield _sends(site, choice)
    if layout.replicas > 1:
        yield from _gradients(site, choice)
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


def _gradients(site: _Site, choice: Choice) -> Iterator[Traffic]:
    """Over all ranks with the same weights; those of experts over fewer. Under FSDP over the groups of shards."""
    layout = site.layout
    held = stage_parameters(site.shape, layout, share_out(site.shape, layout))
    whole = float(choice.time.data) - synchronous_seconds(site.question, site.constants)
    parts = [("data", held.common, layout.replicas, layout.shards, layout.tensor)]
    if site.shape.experts:
        ranks, shards = same_experts(layout.replicas, layout), same_experts(layout.shards, layout)
        parts.append(("data, experts", held.routed, ranks, shards, layout.tensor * layout.expert))
    sums = [_sum(site, name, *map(float, sizes)) for name, *sizes in parts]
    counted = sum(each.exposed for each in sums)
    for each in sums:
        if each.ranks > 1:
            yield replace(each, exposed=whole * each.exposed / counted if counted else 0.0)


def _sum(site: _Site, name: str, parameters: float, ranks: float, shards: float, stride: float) -> Traffic:
    layout = site.layout
    volume = parameters * float(layout.gradient_bytes)
    if layout.sharding == 3:
        volume, ranks, stride = volume / shards, ranks / shards, stride * shards
    seconds = float(gather_seconds(volume, ranks, stride, site.device, site.constants))
    return Traffic(name, "all-reduce", volume, ranks, site.crossings(ranks, stride), float(layout.reductions), seconds)


def _between_sites(site: _Site) -> Traffic:
    question, ranks = site.question, float(site.question.sites)
    volume = float(site.shape.parameters) * question.gradient_bytes
    crossing = Crossing("sites, all devices of one together", ranks, wide_bandwidth(question, site.constants))
    return Traffic(
        "sites", "all-reduce", volume, ranks, (crossing,), 1.0, synchronous_seconds(question, site.constants)
    )


PARTS = {
    "matmul": "matrix products of the layers",
    "attention": "scores and values",
    "elementwise": "norms, activations, residuals",
    "head": "logits and loss on the last stage",
    "tensor": "tensor-parallel collectives",
    "context": "gathering keys and values",
    "expert": "sending tokens to experts",
    "shard": "gathering sharded weights",
    "pipeline": "sends between stages",
    "bubble": "stages that wait for the pipeline",
    "data": "summing gradients",
    "optimizer": "optimizer step",
    "launch": "waiting for the host",
    "fixed": "data, logging, host",
    "scale": "jitter of many devices",
}
"""What each part of a step's time is, by its name in `StepTime`."""


def explain(choice: Choice, question: LayoutQuestion, calibrated: Calibrated) -> list[str]:
    """The forecast taken apart: time, memory, matrix products, collectives."""
    return [
        *_head(choice, question),
        "",
        *_time(choice),
        "",
        *_memory(choice, question),
        "",
        "products of one layer, forward, on one device",
        *map(_product_line, products(choice, question, calibrated)),
        "",
        *_collectives(traffic(choice, question, calibrated)),
    ]


def describe(layout: Layout) -> str:
    """A layout in one line, leaving out what is not split."""
    degrees = ("tensor", "context", "expert", "pipeline", "data")
    words = [f"{name} {getattr(layout, name):,.0f}" for name in degrees if getattr(layout, name) > 1]
    words += [_schedule(layout)] if layout.pipeline > 1 else []
    words += [_sharding(layout)] if layout.data > 1 else []
    words.append(
        f"{layout.accumulation:,.0f} micro-batch{'es' * (layout.accumulation > 1)} of {layout.micro_batch:,.0f}"
    )
    words.append(f"recomputation {RECOMPUTATIONS[int(layout.recomputation)]}")
    return ", ".join(words)


def _schedule(layout: Layout) -> str:
    if layout.zero_bubble:
        return "zero-bubble (ZB-H1)"
    return f"interleaved {layout.interleaving:g}" if layout.interleaving > 1 else "1F1B"


def _sharding(layout: Layout) -> str:
    if layout.sharding == 0:
        return "not sharded"
    group = f" in groups of {layout.shard_group:,.0f}" if layout.shard_group else ""
    return ("FSDP" if layout.sharding == 3 else f"ZeRO-{layout.sharding:g}") + group


def _head(choice: Choice, question: LayoutQuestion) -> Iterator[str]:
    yield describe(choice.layout)
    note = ", extrapolation: nobody has published a measurement at this size" if choice.extrapolation else ""
    yield f"step {choice.seconds:.4g} s, 90% interval {choice.low:.4g} to {choice.high:.4g} s{note}"
    yield (
        f"{choice.tokens_per_second:,.0f} tokens/s, MFU {choice.mfu:.1%}, HFU {choice.hfu:.1%} of "
        f"{question.cluster.accelerator.peak_flops[question.precision] / 1e12:,.0f} TFLOP/s ({question.precision})"
    )


def _time(choice: Choice) -> Iterator[str]:
    for each in fields(choice.time):
        seconds = getattr(choice.time, each.name)
        if seconds > 0:
            yield f"{each.name:12} {seconds:10.4g} s {seconds / choice.seconds:6.1%}  {PARTS[each.name]}"


def _memory(choice: Choice, question: LayoutQuestion) -> Iterator[str]:
    limit = question.cluster.accelerator.memory_bytes
    for each in fields(choice.memory):
        held = getattr(choice.memory, each.name)
        if held > 0:
            yield f"{each.name:12} {held / 1e9:10.2f} GB {held / limit:5.1%}"
    yield (
        f"{'together':12} {choice.memory.total / 1e9:10.2f} GB of {limit / 1e9:g}; "
        f"chance that it fits {choice.chance_to_fit:.0%}"
    )


def _product_line(product: Product) -> str:
    sizes = f"{product.rows:,.0f} x {product.inner:,.0f} x {product.columns:,.0f}"
    return f"{product.name:26} {sizes:26} {product.seconds * 1e6:10,.1f} µs, {product.efficiency:.0%} of the peak"


def _collectives(several: list[Traffic]) -> Iterator[str]:
    if not several:
        yield "no collectives: nothing is split over devices"
        return
    yield "collectives of one step"
    for each in several:
        tiers = "; ".join(
            f"{crossing.units:g} over {crossing.tier} at {crossing.bandwidth / 1e9:.1f} GB/s"
            for crossing in each.crossings
        )
        yield (
            f"{each.name:9} {each.times:8,.0f} x {each.operation} of {each.volume / 1e6:,.1f} MB "
            f"among {each.ranks:,.0f} ({tiers}): {each.exposed:.3g} s not hidden"
        )
