"""What a changed machine makes of the layouts near the best is what it makes of all."""

from dataclasses import replace

import pytest

from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.hardware.load import example_cluster, find_cluster
from tenfold.planner.search.layouts import Choice, search_layouts
from tenfold.planner.search.near import near_layouts
from tenfold.planner.search.question import LayoutQuestion
from tenfold.planner.search.sensitivity import _knobs, sensitivity
from tests.planner.search.examples import LLAMA, dense, routed, two_sites

QUESTIONS = {
    "one device": dense(1, 4),
    "dense": dense(),
    "experts": routed(),
    "two sites": two_sites(dense(), 1e9),
    "a thin line": two_sites(dense(), 1e7),
    "tight memory": replace(dense(8, 64), memory_share=0.35),
    "a small batch": dense(64, 8),
    "racks": LayoutQuestion(LLAMA, find_cluster("GB200:1152"), 576),
    "slow network": LayoutQuestion(LLAMA, find_cluster("L40S:8"), 8, memory_share=1.0),
    "three tiers": LayoutQuestion(LLAMA, example_cluster("llama3-16k"), 2048),
}


def full_search(question: LayoutQuestion) -> Choice | None:
    try:
        return search_layouts(question, shipped_calibration(), top=1).best[0]
    except InputError:
        return None


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_pruned_answer_is_that_of_the_full_search(name: str) -> None:
    question = QUESTIONS[name]
    base = full_search(question)
    if base is None:
        with pytest.raises(InputError, match="nothing fits"):
            sensitivity(question, shipped_calibration())
        return
    knobs = {knob.what: knob for knob in _knobs(question)}
    for lever in sensitivity(question, shipped_calibration()):
        for effect in (lever.better, lever.worse):
            full = full_search(knobs[lever.what].change(question, effect.factor))
            assert (full is None) == (effect.best is None), effect
            if full is not None and effect.best is not None:
                assert effect.best.seconds == pytest.approx(full.seconds, rel=1e-9), (lever.what, effect.change)
                assert effect.days == pytest.approx(base.tokens_per_second / full.tokens_per_second - 1, abs=1e-9)


def test_few_layouts_are_near_the_best() -> None:
    near = near_layouts(QUESTIONS["three tiers"], shipped_calibration())
    counts = [len(near.within(factor).owner) for factor in (1.0, 1.2, 2.0)]
    everything = sum(len(each.places) for each in near.evaluated)
    assert 1 <= counts[0] < counts[1] < counts[2] < everything / 3
