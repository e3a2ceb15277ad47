"""The search finds what looking at every layout one by one finds."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.hardware.cluster import default_cluster
from tenfold.planner.search.layouts import assess, search_layouts
from tenfold.planner.search.question import LayoutQuestion
from tests.planner.search.examples import DENSE, LLAMA, dense, routed, two_sites


def one_by_one(question: LayoutQuestion) -> Iterator[Layout]:
    """Every layout of a small cluster whose degrees are powers of two, written down without any cleverness."""
    shape, degrees = question.shape, [1.0, 2.0, 4.0, 8.0, 16.0]
    sizes = [float(each) for each in range(1, question.sequences + 1)]
    for tensor, pipeline, context, data in product(degrees, repeat=4):
        if tensor * pipeline * context * data != question.cluster.devices:
            continue
        for expert, micro, chunks in product(degrees, sizes, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 12.0, 13.0, 24.0]):
            accumulation = question.sequences / data / micro
            uneven = (shape.layers % (pipeline * chunks)) and ((shape.layers + 2) % (pipeline * chunks))
            if accumulation % 1 or expert > max(1.0, float(shape.experts)) or data % expert:
                continue
            if chunks > 1 and (pipeline == 1 or accumulation % pipeline or uneven):
                continue
            for sharding, group, again in product([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 4.0, 8.0], [0.0, 1.0, 2.0]):
                if (data == 1 and sharding) or (group and (sharding < 3 or group >= data)):
                    continue
                yield Layout(
                    tensor, pipeline, data, micro, accumulation, context, expert, chunks, 0.0, 0.0, sharding,
                    group * context,
                    recomputation=again, reductions=accumulation if sharding == 2 else 1.0,
                )  # fmt: skip


@pytest.mark.parametrize(
    "question", [dense(8, 6), routed(8, 4), dense(16, 4)], ids=["dense", "experts", "more devices"]
)
def test_nothing_is_missed(question: LayoutQuestion) -> None:
    question = replace(question, memory_share=0.2)
    known = [assess(question, layout, shipped_calibration()) for layout in one_by_one(question)]
    fit = [choice for choice in known if choice.memory.total <= question.memory_limit]
    found = search_layouts(question, shipped_calibration(), top=5)
    assert 0 < found.feasible < found.searched
    assert (found.searched, found.feasible) == (len(known), len(fit))
    assert found.best[0].seconds == pytest.approx(min(choice.seconds for choice in fit), rel=1e-12)
    fastest: dict[tuple[float, ...], float] = {}
    for choice in fit:
        at = choice.layout
        key = tuple(map(float, (at.tensor, at.pipeline, at.context, at.expert, at.micro_batch)))
        fastest[key] = min(fastest.get(key, np.inf), choice.seconds)
    assert found.seconds == pytest.approx(sorted(fastest.values()), rel=1e-12)


@pytest.mark.parametrize("question", [dense(), routed(), two_sites(dense(), 1e12)], ids=["dense", "experts", "sites"])
def test_layouts_use_all_devices_and_the_whole_batch(question: LayoutQuestion) -> None:
    found = search_layouts(question, shipped_calibration(), top=20)
    assert len(found.best) == 20
    assert [choice.seconds for choice in found.best] == sorted(choice.seconds for choice in found.best)
    for choice in found.best:
        assert choice.layout.devices == question.cluster.devices
        assert choice.layout.sequences == question.sequences
        assert choice.memory.total <= question.memory_limit
        assert choice.low < choice.seconds < choice.high
        assert choice.tokens_per_second == pytest.approx(question.tokens / choice.seconds)
        assert 0.05 < choice.mfu <= choice.hfu < 0.9
        assert 0.5 < choice.chance_to_fit <= 1
        assert not choice.extrapolation
        assert assess(question, choice.layout, shipped_calibration()) == choice


def test_each_of_the_best_differs_in_degrees_or_micro_batch() -> None:
    best = search_layouts(routed(), shipped_calibration(), top=20).best
    keys = {(c.layout.tensor, c.layout.pipeline, c.layout.context, c.layout.expert, c.layout.micro_batch) for c in best}
    assert len(keys) == 20


def test_the_ranking_says_which_layouts_it_ranks() -> None:
    found = search_layouts(dense(), shipped_calibration(), top=20)
    assert list(found.places) == sorted(set(found.places)) and found.places[0] == 0 and len(found.best) == 20
    places = list(found.places[:20])
    assert list(found.tensor[places]) == [choice.layout.tensor for choice in found.best]
    assert list(found.micro_batch[places]) == [choice.layout.micro_batch for choice in found.best]
    assert list(found.seconds[places]) == pytest.approx([choice.seconds for choice in found.best], rel=1e-12)


def test_the_best_are_layouts_that_one_can_tell_apart() -> None:
    question = LayoutQuestion(LLAMA, default_cluster("H100-SXM", 1024), 512)
    best = [choice.layout for choice in search_layouts(question, shipped_calibration(), top=12).best]
    tokens = [each.micro_batch / each.context for each in best]
    kinds = {(each.tensor, each.pipeline, each.expert, share) for each, share in zip(best, tokens, strict=True)}
    assert len(kinds) == len(best)


def test_options_leave_out_layouts() -> None:
    plain = replace(dense(), recomputations=(0,), shardings=(1,), interleaved=False, zero_bubble=False)
    for choice in search_layouts(plain, shipped_calibration(), top=50).best:
        assert choice.layout.recomputation == choice.layout.zero_bubble == 0
        assert choice.layout.interleaving == 1
        assert choice.layout.sharding == (1 if choice.layout.data > 1 else choice.layout.sharding)


def test_zero_bubble_is_for_frameworks_that_have_it() -> None:
    question = replace(dense(), framework="torchtitan")
    assert (
        search_layouts(question, shipped_calibration()).searched
        > search_layouts(dense(), shipped_calibration()).searched
    )


def test_lower_precision_is_faster() -> None:
    sixteen, eight = (
        search_layouts(replace(dense(), precision=each), shipped_calibration()).best[0] for each in ("bf16", "fp8")
    )
    assert eight.seconds < sixteen.seconds


def test_sites_in_step_wait_for_the_line_between_them() -> None:
    alone = search_layouts(dense(), shipped_calibration()).best[0]
    thin, thick = (search_layouts(two_sites(dense(), each), shipped_calibration()).best[0] for each in (1e9, 1e12))
    assert thin.seconds > thick.seconds > alone.seconds * (1 - 1e-12)
    assert thin.time.matmul == thick.time.matmul


def test_more_devices_than_anybody_measured_are_an_extrapolation() -> None:
    question = LayoutQuestion(LLAMA, default_cluster("H100-SXM", 65536), 8192)
    assert search_layouts(question, shipped_calibration(), top=1).best[0].extrapolation


def llama(devices: int, sequences: int, **changes: object) -> LayoutQuestion:
    return replace(LayoutQuestion(LLAMA, default_cluster("H100-SXM", devices), sequences), **changes)  # type: ignore[arg-type]


def odd(**changes: float) -> Shape:
    return replace(DENSE, **changes)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (llama(16, 16), r"nothing fits: on 16 devices the leanest layout needs \d+\.\d GB a device"),
        (llama(1024, 0), "a global batch of 0 sequences"),
        (llama(1 << 20, 1), "a batch of 1 sequences is too small for 1,048,576 devices: with this shape at least 2 of"),
        (llama(16384, 2048, precision="fp4"), "H100-SXM has no published peak in fp4; it has fp32, fp16, bf16, fp8"),
        (llama(16384, 2048, memory_share=0.0), "memory_share"),
        (llama(16384, 2048, recomputations=(3,)), "recomputations"),
        (llama(16384, 2048, shardings=()), "shardings"),
        (replace(dense(), shape=odd(heads=15.0)), "15 heads do not divide over 8 groups"),
        (replace(dense(), shape=odd(layers=0.0)), "layers = 0; it must be at least 1"),
        (replace(dense(), shape=odd(width=float("nan"))), "width = nan is not one finite number"),
        (replace(dense(), shape=odd(experts=8.0, experts_per_token=9.0)), "experts_per_token = 9 of 8"),
        (dense(29, 5), "a batch of 5 sequences is too small for 29 devices: with this shape at least 29 of"),
        (dense(29, 30), "a batch of 30 sequences does not divide over 29 devices: it must be a multiple of 29"),
        (replace(two_sites(dense()), sequences=63), "63 sequences does not divide over 2 sites"),
    ],
)
def test_what_cannot_be_says_why_in_one_line(question: LayoutQuestion, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        search_layouts(question, shipped_calibration())
    assert "\n" not in str(error.value)


def test_sites_of_different_size_cannot_train_in_step() -> None:
    question = two_sites(dense())
    here, there = question.cluster.sites
    uneven = replace(question.cluster, sites=(replace(here, devices=24), replace(there, devices=8)))
    with pytest.raises(InputError, match="sites of equal size, here here 24, there 8"):
        search_layouts(replace(question, cluster=uneven), shipped_calibration())
