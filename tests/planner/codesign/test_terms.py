"""What one more token takes as served: against figures worked out by hand."""

import math
from dataclasses import replace

import pytest

from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.codesign.goal import ServingSection
from tenfold.planner.codesign.known import known_model
from tenfold.planner.codesign.terms import decode_seconds, serving_of
from tenfold.planner.hardware.accelerator import accelerator

CONSTANTS = shipped_calibration().constants(chip=accelerator("H100-SXM"))


def section(**changes: object) -> ServingSection:
    given = {"accelerator": "H100-SXM", "devices": 1, "context": 1, "milliseconds_per_token": 10.0}
    return ServingSection.model_validate(given | changes)


def test_one_sequence_reads_all_weights_once() -> None:
    shape = known_model("Llama-3-8B").shape
    weights = (float(shape.parameters) - float(shape.embedding_parameters)) * 2
    expected = weights / (3.35e12 * float(CONSTANTS.memory_efficiency))
    assert decode_seconds(shape, serving_of(section()), CONSTANTS) == pytest.approx(expected, rel=0.001)


def test_a_long_context_reads_its_cache_for_every_sequence() -> None:
    shape = known_model("Llama-3-8B").shape
    cache = 2 * 32 * 8 * 128 * 2 * 8192  # keys and values of one sequence
    apart = decode_seconds(shape, serving_of(section(context=8192, batch=9)), CONSTANTS) - decode_seconds(
        shape, serving_of(section(context=8192, batch=8)), CONSTANTS
    )
    assert apart == pytest.approx(cache / (3.35e12 * float(CONSTANTS.memory_efficiency)), rel=0.001)


def test_what_does_not_fit_is_never_served() -> None:
    shape = known_model("Llama-3-70B").shape
    assert decode_seconds(shape, serving_of(section()), CONSTANTS) == math.inf
    assert decode_seconds(shape, serving_of(section(devices=8)), CONSTANTS) < 0.02


def test_large_batches_are_bound_by_computing() -> None:
    shape = known_model("Llama-3-8B").shape
    seconds = decode_seconds(shape, serving_of(section(batch=4096)), CONSTANTS)
    flops = 2 * float(shape.active_parameters) * 4096
    assert seconds == pytest.approx(flops / (989e12 * float(CONSTANTS.matmul_efficiency)), rel=0.01)


def test_a_batch_reads_more_experts_than_one_sequence() -> None:
    shape = known_model("Qwen3-30B-A3B").shape
    one, many = (decode_seconds(shape, serving_of(section(batch=batch)), CONSTANTS) for batch in (1, 64))
    assert 5 < many / one < 12
    dense = replace(shape, experts=0.0)
    assert decode_seconds(dense, serving_of(section(batch=1)), CONSTANTS) > 0
