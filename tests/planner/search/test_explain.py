"""What an explanation says adds up to what the cost model said."""

from dataclasses import fields, replace

import pytest

from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.cost.device import dispatch_seconds, gather_seconds
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.step import StepTime
from tenfold.planner.search.explain import PARTS, Traffic, describe, explain, products, traffic
from tenfold.planner.search.layouts import assess, search_layouts
from tenfold.planner.search.question import LayoutQuestion, constants_of, device_of
from tests.planner.search.examples import dense, routed, two_sites

SPLIT = Layout(2.0, 2.0, 4.0, 1.0, 8.0, context=2.0, expert=1.0, interleaving=3.0, sharding=1.0)


def collectives(question: LayoutQuestion, layout: Layout) -> dict[str, Traffic]:
    return {
        each.name: each
        for each in traffic(assess(question, layout, shipped_calibration()), question, shipped_calibration())
    }


@pytest.mark.parametrize("recomputation", [0.0, 2.0])
def test_collectives_take_the_time_that_the_step_counts(recomputation: float) -> None:
    """Bytes × times, at the bandwidth that the model takes, are the part of the step that bears their name."""
    question, layout = routed(32, 32), replace(SPLIT, expert=4.0, recomputation=recomputation)
    known = constants_of(question, shipped_calibration())
    device, every = device_of(question), collectives(question, layout)
    one = 2 * gather_seconds(every["tensor"].volume, 2.0, 1.0, device, known) * known.tensor_exposed
    assert every["tensor"].exposed == pytest.approx(every["tensor"].times * one * known.slowness)
    one = gather_seconds(every["context"].volume, 2.0, 2.0, device, known) * known.context_exposed
    assert every["context"].exposed == pytest.approx(every["context"].times * one * known.slowness)
    one = dispatch_seconds(every["expert"].volume, 2.0, 4.0, 2.0, device, known) * known.expert_exposed
    assert every["expert"].exposed == pytest.approx(every["expert"].times * one * known.slowness)
    for name, ranks, stride in (("data", 8.0, 2.0), ("data, experts", 2.0, 8.0)):
        one = 1.5 * gather_seconds(every[name].volume, ranks, stride, device, known) * known.data_exposed
        assert every[name].exposed == pytest.approx(every[name].times * one * known.slowness)
    sent = every["pipeline"].volume / every["pipeline"].crossings[0].bandwidth * known.pipeline_send
    one = (sent + known.pipeline_launch) * known.slowness
    assert every["pipeline"].exposed == pytest.approx(every["pipeline"].times * one)


def test_sharded_groups_gather_inside_and_reduce_between() -> None:
    layout = Layout(1.0, 1.0, 16.0, 1.0, 2.0, sharding=3.0, shard_group=8.0)
    every = collectives(dense(16, 32), layout)
    assert [(crossing.tier, crossing.units) for crossing in every["shard"].crossings] == [("NVLink4", 8)]
    assert [(crossing.tier, crossing.units) for crossing in every["data"].crossings] == [("network", 2)]


def test_products_take_the_time_that_the_step_counts() -> None:
    question, layout = dense(), Layout(2.0, 1.0, 8.0, 1.0, 8.0)
    choice = assess(question, layout, shipped_calibration())
    one = sum(each.seconds for each in products(choice, question, shipped_calibration()) if each.name != "head")
    slowness = constants_of(question, shipped_calibration()).slowness
    assert 3 * one * 24 * 8 * slowness == pytest.approx(choice.time.matmul)


def test_small_products_reach_less_of_the_peak() -> None:
    question = dense()
    wide, narrow = (
        products(
            assess(question, Layout(tensor, 1.0, 16 / tensor, 1.0, 4 * tensor), shipped_calibration()),
            question,
            shipped_calibration(),
        )
        for tensor in (1.0, 8.0)
    )
    for whole, part in zip(wide, narrow, strict=True):
        assert 0 < part.efficiency < whole.efficiency < 1


def test_every_part_of_a_step_has_words() -> None:
    assert list(PARTS) == [each.name for each in fields(StepTime)]


def test_lines_name_every_second_and_every_byte() -> None:
    question = dense(32, 32)
    choice = assess(question, SPLIT, shipped_calibration())
    lines = explain(choice, question, shipped_calibration())
    times = [line.split() for line in lines if line.split()[2:3] == ["s"] and line.split()[0] in PARTS]
    assert sum(float(words[1]) for words in times) == pytest.approx(choice.seconds, rel=2e-3)
    assert sum(float(words[3].rstrip("%")) for words in times) == pytest.approx(100, abs=0.5)
    held = [line.split() for line in lines if line.split()[2:3] == ["GB"]]
    assert held[-1][0] == "together"
    assert sum(float(words[1]) for words in held[:-1]) == pytest.approx(float(choice.memory.total) / 1e9, abs=0.03)
    assert float(held[-1][1]) == pytest.approx(float(choice.memory.total) / 1e9, abs=0.01)
    assert any("MFU" in line and "HFU" in line for line in lines)


def test_one_device_has_no_collectives() -> None:
    question = dense(1, 4)
    choice = search_layouts(question, shipped_calibration()).best[0]
    assert "no collectives: nothing is split over devices" in explain(choice, question, shipped_calibration())


def test_sites_have_traffic_of_their_own() -> None:
    question = two_sites(dense())
    choice = search_layouts(question, shipped_calibration()).best[0]
    every = collectives(question, choice.layout)
    inside = every["data"].exposed if "data" in every else 0.0
    assert every["sites"].exposed + inside == pytest.approx(choice.time.data)
    assert every["sites"].exposed > 1


def test_a_layout_in_words() -> None:
    assert describe(SPLIT) == (
        "tensor 2, context 2, pipeline 2, data 4, interleaved 3, ZeRO-1, 8 micro-batches of 1, recomputation none"
    )
    hybrid = Layout(1.0, 1.0, 16.0, 4.0, 1.0, sharding=3.0, shard_group=8.0, recomputation=2.0)
    assert describe(hybrid) == "data 16, FSDP in groups of 8, 1 micro-batch of 4, recomputation full"
