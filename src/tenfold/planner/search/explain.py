"""Why a layout takes as long as it does and needs as much memory: lines to read."""

from collections.abc import Iterator
from dataclasses import fields

from tenfold.planner.calibration import Calibrated
from tenfold.planner.cost.layout import RECOMPUTATIONS, Layout
from tenfold.planner.search.layouts import Choice
from tenfold.planner.search.question import Question
from tenfold.planner.search.traffic import Product, Traffic, products, traffic

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


def explain(choice: Choice, question: Question, calibrated: Calibrated) -> list[str]:
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


def _head(choice: Choice, question: Question) -> Iterator[str]:
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


def _memory(choice: Choice, question: Question) -> Iterator[str]:
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
