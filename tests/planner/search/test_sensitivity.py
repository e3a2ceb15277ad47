"""What is worth relaxing."""

import math
from dataclasses import replace

import pytest

from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.hardware.cluster import default_cluster
from tenfold.planner.hardware.load import example_cluster
from tenfold.planner.search.layouts import search_layouts
from tenfold.planner.search.question import LayoutQuestion
from tenfold.planner.search.sensitivity import MachineLever, effect_line, sensitivity
from tests.planner.search.examples import LLAMA, dense, two_sites

BATCH = "global batch, each token worth the same"


def levers(question: LayoutQuestion) -> dict[str, MachineLever]:
    return {lever.what: lever for lever in sensitivity(question, shipped_calibration())}


def test_better_hardware_never_costs_days() -> None:
    for lever in levers(dense()).values():
        if not lever.what.startswith("global batch"):
            assert lever.better.days <= 1e-12
            assert lever.worse.days >= -1e-12
            assert lever.reach >= 0


def test_days_are_those_of_the_layout_searched_anew() -> None:
    question = dense()
    chip = question.cluster.accelerator
    peaks = {precision: peak * 1.2 for precision, peak in chip.peak_flops.items()}
    faster = replace(question.cluster, accelerator=replace(chip, peak_flops=peaks))
    after = search_layouts(replace(question, cluster=faster), shipped_calibration()).best[0]
    before = search_layouts(question, shipped_calibration()).best[0]
    effect = levers(question)["FLOP/s"].better
    assert effect.days == pytest.approx(after.seconds / before.seconds - 1)
    assert -1 / 6 <= effect.days < -0.05
    assert effect_line(effect) == f"+20% FLOP/s = {effect.days:+.1%} days"


def test_levers_are_what_the_machine_has() -> None:
    one = set(levers(dense(1, 4)))
    assert one == {"FLOP/s", "memory", "memory bandwidth", BATCH}
    assert "network bandwidth" not in levers(dense(8, 8))
    assert {"network bandwidth", "link bandwidth", "latency of collectives"} <= set(levers(dense(16, 16)))
    assert "bandwidth between sites" in levers(two_sites(dense()))
    tiers = LayoutQuestion(LLAMA, example_cluster("llama3-16k"), 2048, recomputations=(2,), shardings=(1,))
    assert "bandwidth of the outermost tier" in levers(tiers)


def test_a_thin_line_between_sites_binds_first() -> None:
    first = sensitivity(replace(two_sites(dense(), 1e8), shardings=(1,)), shipped_calibration())
    assert {first[0].what, first[1].what} == {BATCH, "bandwidth between sites"}


def test_what_fits_no_more_takes_for_ever() -> None:
    question = LayoutQuestion(LLAMA, default_cluster("H100-SXM", 128), 128)
    least = min(
        c.memory.total for c in search_layouts(replace(question, memory_share=1.0), shipped_calibration(), top=500).best
    )
    tight = replace(question, memory_share=float(least) * 1.05 / question.cluster.accelerator.memory_bytes)
    memory = levers(tight)["memory"]
    assert math.isinf(memory.worse.days)
    assert memory.worse.best is None
    assert effect_line(memory.worse) == "-17% memory: nothing fits"


def test_a_question_without_an_answer_says_so() -> None:
    with pytest.raises(InputError, match="nothing fits"):
        sensitivity(LayoutQuestion(LLAMA, default_cluster("H100-SXM", 8), 8), shipped_calibration())
