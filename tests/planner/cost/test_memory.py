"""What holds for the memory of every layout."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.planner.calibration.fit import COUNTED
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.cost.memory import Memory, memory_bytes, total_bytes
from tests.planner.cost.drawn import layouts, powers, shapes, stacked

few = settings(max_examples=60)


def held(shape: Shape, layout: Layout) -> float:
    return float(memory_bytes(shape, layout, COUNTED).total)


@few
@given(shapes(), st.data())
def test_parts_sum_to_the_total(shape: Shape, data: st.DataObject) -> None:
    layout = data.draw(layouts(shape))
    memory = memory_bytes(shape, layout, COUNTED)
    parts = [float(getattr(memory, each.name)) for each in fields(Memory)]
    assert min(parts) >= 0
    assert float(memory.total) == pytest.approx(sum(parts), rel=1e-12)
    assert float(total_bytes(shape, layout, COUNTED)) == pytest.approx(sum(parts), rel=1e-12)


@few
@given(st.lists(st.tuples(shapes(), layouts()), min_size=2, max_size=5))
def test_arrays_give_what_numbers_give(pairs: list[tuple[Shape, Layout]]) -> None:
    together = memory_bytes(stacked([s for s, _ in pairs]), stacked([each for _, each in pairs]), COUNTED).total
    alone = [held(shape, layout) for shape, layout in pairs]
    assert np.asarray(together) == pytest.approx(alone, rel=1e-12)


@few
@given(shapes(), st.data())
def test_more_sharding_never_needs_more(shape: Shape, data: st.DataObject) -> None:
    layout = replace(data.draw(layouts(shape)), sharding=0.0, shard_group=0.0)
    none, first, second = (held(shape, replace(layout, sharding=stage)) for stage in (0.0, 1.0, 2.0))
    assert none >= first >= second
    for stage in (1.0, 2.0, 3.0):
        narrow = replace(layout, sharding=stage)
        assert held(shape, replace(narrow, data=layout.data * 2)) <= held(shape, narrow) * (1 + 1e-12)


@few
@given(shapes(), st.data(), powers)
def test_more_splitting_never_needs_more(shape: Shape, data: st.DataObject, factor: float) -> None:
    layout = replace(data.draw(layouts(shape)), sequence_parallel=1.0, tensor=2.0)
    for name in ("tensor", "context"):
        wider = replace(layout, **{name: getattr(layout, name) * factor})
        assert held(shape, wider) <= held(shape, layout) * (1 + 1e-12)


@few
@given(shapes(experts=True), powers, st.sampled_from([1.0, 2.0, 3.0]))
def test_somebody_holds_the_state_of_every_expert(shape: Shape, expert: float, sharding: float) -> None:
    """Splitting experts over the ranks that share out optimizer state does not make state disappear."""
    layout = Layout(2.0, 1.0, 8.0, 1.0, 1.0, expert=expert, sharding=sharding)
    router = shape.expert_layers * shape.width * shape.experts
    everywhere = float(memory_bytes(shape, layout, COUNTED).optimizer) * float(layout.devices)
    assert everywhere == pytest.approx(COUNTED.optimizer_bytes * float(shape.parameters - router), rel=1e-9)


@few
@given(shapes(), st.data())
def test_recomputation_keeps_less(shape: Shape, data: st.DataObject) -> None:
    layout = replace(data.draw(layouts(shape)), sequence_parallel=1.0, pipeline=1.0)
    assert held(shape, replace(layout, recomputation=2.0)) <= held(shape, replace(layout, recomputation=0.0))


def test_under_a_pipeline_fsdp_keeps_weights_and_gradients_whole() -> None:
    """A 405 B model on 512 devices, 8 tensor- and 8 pipeline-parallel: 6.3 B parameters are on each device."""
    shape = Shape(126, 16384, 128, 8, 128, 53248, 3, 128256, 8192)
    layout = Layout(tensor=8, pipeline=8, data=8, micro_batch=1, accumulation=32, sharding=3, recomputation=1)
    memory = memory_bytes(shape, layout, COUNTED)
    assert float(memory.weights) == pytest.approx(2 * 405.85e9 / 64, rel=0.05)
    assert float(memory.gradients) == pytest.approx(4 * 405.85e9 / 64, rel=0.05)
    assert float(memory.optimizer) == pytest.approx(12 * 405.85e9 / 512, rel=0.05)
    flat = memory_bytes(shape, replace(layout, pipeline=1, data=64), COUNTED)
    assert float(flat.weights) == 0 and float(flat.gradients) < 0.2 * float(memory.gradients)


def test_gradients_that_are_summed_in_16_bits_need_half() -> None:
    shape = Shape(32, 4096, 32, 8, 128, 14336, 3, 128256, 8192)
    layout = Layout(tensor=1, pipeline=1, data=8, micro_batch=1, accumulation=4)
    whole, half = (memory_bytes(shape, replace(layout, gradient_bytes=bits / 8), COUNTED) for bits in (32.0, 16.0))
    assert float(half.gradients) == float(whole.gradients) / 2
