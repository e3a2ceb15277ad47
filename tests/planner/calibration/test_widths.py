"""How much wider an interval is for what its calibration has not seen."""

from dataclasses import replace

import numpy as np
import pytest

from tenfold.planner.calibration.calibrated import NEVER_SEEN, shipped_calibration
from tenfold.planner.calibration.forecasts import forecast_rows
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.calibration.widths import UNSEEN, level_factor, sensitivities, spread_of_strangers
from tenfold.planner.cost.device import CONSTANT_NAMES
from tenfold.planner.hardware.accelerator import accelerator
from tenfold.planner.notes import stranger_notes
from tenfold.planner.search.layouts import assess
from tests.planner.calibration.runs import BASE
from tests.planner.search.examples import dense

KNOWN = replace(BASE, group="vtrain", framework="megatron-deepspeed", release="data/ground_truth_multi.csv")
KNOWN = replace(KNOWN, hardware="A100 (multi-node, 4x200G HDR)")


def width(run: MeasuredRun) -> float:
    told = forecast_rows([run], shipped_calibration())[0]
    return float(np.log(told.high / told.step_seconds))


def test_each_thing_that_is_new_widens_the_interval() -> None:
    known, base = width(KNOWN), shipped_calibration().half_width(KNOWN.framework, KNOWN.devices)
    assert known == pytest.approx(base)
    new = [
        replace(KNOWN, release="the next one"),
        replace(KNOWN, group="another lab", release="another lab's"),
        replace(KNOWN, framework="never seen before", group="another lab"),
    ]
    widths = [known, *map(width, new)]
    assert widths == sorted(widths) and widths[-1] > widths[0] + 0.1


def test_an_accelerator_of_a_maker_without_runs_widens_the_interval_and_another_of_a_known_one_says_why_not() -> None:
    calibrated = shipped_calibration()
    own, other, sibling = (accelerator(name) for name in ("H100-SXM", "MI300X", "L40S"))
    assert calibrated.knows_maker(own) and calibrated.knows_maker(sibling) and not calibrated.knows_maker(other)
    sensitivity, old = np.eye(len(CONSTANT_NAMES))[[CONSTANT_NAMES.index("slowness")]], np.array([False])
    nothing = dict.fromkeys(UNSEEN, old)
    known, new = (calibrated.half_widths(np.array([0.1]), sensitivity, nothing, each) for each in (old, ~old))
    assert known[0] == 0.1 and new[0] == pytest.approx(np.hypot(0.1, 1.645 * 2 * 0.05), rel=0.01)
    told = [width(replace(KNOWN, hardware=chip)) for chip in ("H100-SXM", "MI300X")]
    assert told[1] > told[0]
    [note] = stranger_notes("megatron-core", other, calibrated)
    assert "wider interval" in note
    [note] = stranger_notes("megatron-core", sibling, calibrated)
    assert "wider" not in note
    assert stranger_notes("megatron-core", own, calibrated) == []


def test_the_shipped_calibration_knows_of_every_level() -> None:
    calibrated = shipped_calibration()
    assert set(calibrated.strangers) == set(UNSEEN) and calibrated.strangers["framework"] >= 1
    assert calibrated.half_width("never seen", 8) == calibrated.widths[NEVER_SEEN]


def test_a_step_bound_by_a_network_of_which_nothing_is_known_gets_a_wide_interval() -> None:
    question = dense(64, 64)
    layout = replace(BASE.layout, data=64.0, micro_batch=1.0, accumulation=1.0)
    tiers = question.cluster.tiers
    thin = tuple(replace(tier, oversubscription=16.0) if number else tier for number, tier in enumerate(tiers))
    starved = replace(question, cluster=replace(question.cluster, tiers=thin))
    plain, slow = (assess(each, layout, shipped_calibration()) for each in (question, starved))
    assert slow.seconds > 1.5 * plain.seconds
    assert np.log(slow.high / slow.seconds) > 1.25 * np.log(plain.high / plain.seconds)


def test_sensitivities_are_derivatives() -> None:
    logarithms = np.zeros((2, len(CONSTANT_NAMES)))
    found = sensitivities(lambda constants: np.asarray(constants.slowness * constants.launch**2), logarithms)
    expected = {"slowness": 1.0, "launch": 2.0}
    assert np.allclose(found, [[expected.get(name, 0.0) for name in CONSTANT_NAMES]] * 2, atol=1e-6)
    assert spread_of_strangers(found, "release")[0] == pytest.approx(np.hypot(0.05, 0.6))


def test_labels_weigh_the_same_however_many_runs_they_have() -> None:
    needed = np.array([0.1] * 90 + [2.0] * 2 + [1.0] * 8)
    labels = ["swept"] * 90 + ["rare"] * 2 + ["other"] * 8
    assert level_factor(needed, labels, 0.6) == 1.0
