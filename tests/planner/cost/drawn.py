"""Shapes, layouts, devices and constants for tests that hold for all of them."""

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tenfold.planner.calibration.priors import PRIORS
from tenfold.planner.cost.device import Constants, Device, Hop
from tenfold.planner.cost.layout import Layout, Shape

powers = st.sampled_from([1.0, 2.0, 4.0, 8.0])


@st.composite
def shapes(draw: st.DrawFn, experts: bool | None = None) -> Shape:
    """Of 2 to 64 layers; with experts, without (False), or either (None)."""
    heads = draw(st.sampled_from([8.0, 16.0, 64.0]))
    layers = draw(st.sampled_from([2.0, 6.0, 16.0, 61.0]))
    routed = draw(st.sampled_from([8.0, 64.0])) if (draw(st.booleans()) if experts is None else experts) else 0.0
    return Shape(
        layers=layers,
        width=heads * draw(st.sampled_from([64.0, 128.0])),
        heads=heads,
        kv_heads=draw(st.sampled_from([8.0, heads])),
        head_dim=128.0,
        mlp_width=draw(st.sampled_from([2048.0, 16384.0])),
        mlp_matrices=draw(st.sampled_from([2.0, 3.0])),
        vocabulary=draw(st.sampled_from([1024.0, 128256.0])),
        context=draw(st.sampled_from([1024.0, 8192.0])),
        experts=routed,
        experts_per_token=draw(st.sampled_from([1.0, 4.0])) if routed else 0.0,
        shared_experts=draw(st.sampled_from([0.0, 1.0])) if routed else 0.0,
        expert_width=draw(st.sampled_from([512.0, 4096.0])) if routed else 0.0,
        dense_layers=draw(st.sampled_from([0.0, 1.0])) if routed else 0.0,
        tied_embeddings=draw(st.sampled_from([0.0, 1.0])),
    )


@st.composite
def layouts(draw: st.DrawFn, shape: Shape | None = None) -> Layout:
    """Any degrees; experts split only where `shape` has some."""
    data = draw(powers)
    routed = shape is None or float(shape.experts) > 0
    sharding = draw(st.sampled_from([0.0, 1.0, 2.0, 3.0]))
    return Layout(
        tensor=draw(powers),
        pipeline=draw(st.sampled_from([1.0, 2.0, 3.0])),
        data=data,
        micro_batch=draw(powers),
        accumulation=draw(st.sampled_from([1.0, 3.0, 16.0])),
        context=draw(powers),
        expert=min(draw(powers), data) if routed else 1.0,
        interleaving=draw(st.sampled_from([1.0, 2.0])),
        zero_bubble=draw(st.sampled_from([0.0, 1.0])),
        balanced_stages=draw(st.sampled_from([0.0, 1.0])),
        sharding=sharding,
        shard_group=draw(st.sampled_from([0.0, 1.0, data])),
        sequence_parallel=draw(st.sampled_from([0.0, 1.0])),
        recomputation=draw(st.sampled_from([0.0, 1.0, 2.0])),
        fused_attention=draw(st.sampled_from([0.0, 1.0])),
        reductions=draw(st.sampled_from([1.0, 3.0])),
        gradient_bytes=draw(st.sampled_from([2.0, 4.0])),
    )


@st.composite
def devices(draw: st.DrawFn) -> Device:
    """With two or three tiers."""
    flops = draw(st.sampled_from([1e14, 1e15]))
    hops = (Hop(8.0, draw(st.sampled_from([1e10, 4.5e11])), 3e-6), Hop(256.0, 5e10, 1e-5), Hop(4096.0, 7e9, 2e-5))
    return Device(
        matmul_flops=flops * draw(st.sampled_from([1.0, 2.0, 4.0])),
        attention_flops=flops,
        memory_bandwidth=draw(st.sampled_from([1e12, 8e12])),
        hops=hops[: draw(st.sampled_from([1, 2, 3]))],
    )


@st.composite
def constants(draw: st.DrawFn) -> Constants:
    """The prior means, each up to a third off."""
    factors = st.floats(0.75, 1.33)
    return Constants(**{name: prior.mean * draw(factors) for name, prior in PRIORS.items()})


def stacked(several: list[Any]) -> Any:
    """One record of arrays from records of numbers."""
    names = [each.name for each in fields(several[0])]
    return type(several[0])(**{name: np.array([getattr(one, name) for one in several]) for name in names})
