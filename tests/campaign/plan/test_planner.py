"""What search and fleet really return goes into a plan and onto the page."""

import math

import pytest

from tenfold.campaign.plan.build import fleet_lines, planned, sensitivity_of
from tenfold.pages.plan import Plan
from tenfold.pages.plan_page import plan_figures, plan_page, plan_table
from tenfold.planner.calibration.calibrated import MOST_MEASURED, shipped_calibration
from tenfold.planner.fleet.curves import goodput_curves
from tenfold.planner.fleet.section import FleetSection, fleet_run
from tenfold.planner.hardware.cluster import default_cluster
from tenfold.planner.search.layouts import search_layouts
from tenfold.planner.search.question import LayoutQuestion
from tenfold.planner.search.sensitivity import sensitivity
from tests.campaign.plan.example import LLAMA, SEQUENCES, llama_asked


@pytest.fixture(scope="module")
def question() -> LayoutQuestion:
    return LayoutQuestion(LLAMA, default_cluster("H100-SXM", 16384), SEQUENCES)


def test_a_search_becomes_a_plan_with_every_picture_it_has_data_for(question: LayoutQuestion) -> None:
    found = search_layouts(question, shipped_calibration(), top=4)
    levers = sensitivity(question, shipped_calibration())
    run = fleet_run(FleetSection(replica_devices=256), question.cluster)
    curves = goodput_curves(run, [4096, 262_144], learner_devices=1024, replicas=2)
    changes = sensitivity_of(levers)
    plan = Plan(llama_asked(), tuple(map(planned, found.best)), None, fleet_lines(curves), changes)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert [figure.name for figure in plan_figures(plan)] == ["step-time", "memory", "fleet", "sensitivity"]
    assert plan_page(plan).count("<svg") == 4
    assert len(plan_table(plan.layouts)) == 1 + 4 + 5
    for choice, layout in zip(found.best, plan.layouts, strict=True):
        assert math.isclose(sum(layout.time.values()), choice.seconds, rel_tol=1e-9)
        assert layout.extrapolation == (question.cluster.devices > MOST_MEASURED)
    assert [lever.name for lever in changes.levers] == [lever.what for lever in levers]
    assert {line.mode for line in plan.fleet} == {"synchronous", "elastic", "semi-synchronous"}
