"""What holds for the time of every step."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.planner.cost.device import Constants, Device
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.cost.step import StepTime, step_seconds, total_seconds
from tests.planner.cost.drawn import constants, devices, layouts, shapes, stacked

few = settings(max_examples=60)


@few
@given(shapes(), st.data(), devices(), constants())
def test_parts_sum_to_the_total(shape: Shape, data: st.DataObject, device: Device, known: Constants) -> None:
    layout = data.draw(layouts(shape))
    time = step_seconds(shape, layout, device, known)
    parts = [float(getattr(time, each.name)) for each in fields(StepTime)]
    assert min(parts) >= 0
    assert float(time.total) == pytest.approx(sum(parts), rel=1e-12)
    assert float(total_seconds(shape, layout, device, known)) == pytest.approx(sum(parts), rel=1e-12)


@few
@given(st.lists(st.tuples(shapes(), layouts()), min_size=2, max_size=5), devices(), constants())
def test_arrays_give_what_numbers_give(pairs: list[tuple[Shape, Layout]], device: Device, known: Constants) -> None:
    together = step_seconds(stacked([s for s, _ in pairs]), stacked([each for _, each in pairs]), device, known)
    for number, (shape, layout) in enumerate(pairs):
        alone = step_seconds(shape, layout, device, known)
        for each in fields(StepTime):
            value = np.broadcast_to(getattr(together, each.name), len(pairs))[number]
            assert value == pytest.approx(float(getattr(alone, each.name)), rel=1e-12, abs=1e-15)


@few
@given(shapes(), st.data(), devices(), constants(), st.floats(1.01, 10))
def test_a_better_device_is_never_slower(
    shape: Shape, data: st.DataObject, device: Device, known: Constants, factor: float
) -> None:
    layout = data.draw(layouts(shape))
    before = float(total_seconds(shape, layout, device, known))
    faster = [
        replace(device, matmul_flops=device.matmul_flops * factor),
        replace(device, matmul_flops=device.matmul_flops * factor, attention_flops=device.attention_flops * factor),
        replace(device, memory_bandwidth=device.memory_bandwidth * factor),
        *(_with_hop(device, number, "bandwidth", factor) for number in range(len(device.hops))),
        *(_with_hop(device, number, "latency", 1 / factor) for number in range(len(device.hops))),
    ]
    for better in faster:
        assert float(total_seconds(shape, layout, better, known)) <= before * (1 + 1e-12)


def _with_hop(device: Device, number: int, name: str, factor: float) -> Device:
    hops = list(device.hops)
    hops[number] = replace(hops[number], **{name: getattr(hops[number], name) * factor})
    return replace(device, hops=tuple(hops))


@few
@given(shapes(), devices(), constants(), st.sampled_from([0.0, 1.0, 2.0, 3.0]), st.sampled_from([0.0, 1.0, 2.0]))
def test_one_device_communicates_with_nobody(
    shape: Shape, device: Device, known: Constants, sharding: float, recomputation: float
) -> None:
    alone = Layout(1.0, 1.0, 1.0, 2.0, 4.0, sharding=sharding, recomputation=recomputation)
    time = step_seconds(shape, alone, device, known)
    for name in ("tensor", "context", "expert", "shard", "pipeline", "bubble", "data", "scale"):
        assert float(getattr(time, name)) == 0, name
    assert float(time.matmul) > 0


@few
@given(shapes(), st.data(), devices(), constants())
def test_work_computed_again_takes_longer(shape: Shape, data: st.DataObject, device: Device, known: Constants) -> None:
    layout = data.draw(layouts(shape))
    none, selective, full = (
        float(total_seconds(shape, replace(layout, recomputation=each), device, known)) for each in (0.0, 1.0, 2.0)
    )
    assert none <= selective <= full


@few
@given(shapes(), st.data(), devices(), constants())
def test_under_a_pipeline_fsdp_gathers_once_a_step(
    shape: Shape, data: st.DataObject, device: Device, known: Constants
) -> None:
    layout = replace(data.draw(layouts(shape)), pipeline=2.0, shard_group=0.0, sharding=3.0)
    sharded, first = (step_seconds(shape, replace(layout, sharding=stage), device, known) for stage in (3.0, 1.0))
    assert float(sharded.shard) == 0
    assert float(sharded.total) == pytest.approx(float(first.total), rel=1e-12)


@few
@given(shapes(), st.data(), devices(), constants())
def test_a_head_that_all_stages_share_waits_for_none(
    shape: Shape, data: st.DataObject, device: Device, known: Constants
) -> None:
    shape = replace(shape, layers=8.0)
    layout = replace(data.draw(layouts(shape)), pipeline=4.0, interleaving=1.0, balanced_stages=0.0)
    last, shared = (step_seconds(shape, replace(layout, shared_head=on), device, known) for on in (0.0, 1.0))
    assert float(shared.total) <= float(last.total) * (1 + 1e-12)


@few
@given(shapes(), devices(), constants())
def test_attention_of_a_split_context_is_never_faster_than_an_even_share(
    shape: Shape, device: Device, known: Constants
) -> None:
    layout = Layout(tensor=1.0, pipeline=1.0, data=1.0, micro_batch=1.0, accumulation=1.0)
    whole, split = (step_seconds(shape, replace(layout, context=ranks), device, known) for ranks in (1.0, 4.0))
    assert float(split.attention) >= float(whole.attention) / 4 * (1 - 1e-12)
