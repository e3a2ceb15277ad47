"""Checkpoint interval, spares, and curves over the size of the fleet."""

import math
from dataclasses import replace

import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import poisson

from tenfold.core.errors import InputError
from tenfold.planner.fleet.choose import (
    best_interval,
    best_spares,
    daly_interval,
    expected_goodput,
    first_interval,
    young_interval,
)
from tenfold.planner.fleet.curves import goodput_curves
from tenfold.planner.fleet.run import Cause, CheckpointPolicy, FleetRun, Recovery, causes_of
from tests.planner.fleet.runs import BUG, GPU, RACK, SMALL


def saving_every(run: FleetRun, seconds: float) -> FleetRun:
    return replace(run, checkpoint=replace(run.checkpoint, interval_s=seconds))


def test_first_guesses_are_the_papers_formulas() -> None:
    assert young_interval(50, 10_000) == pytest.approx(1000)
    assert daly_interval(50, 10_000) == pytest.approx(1000 * (1 + 0.05 / 3 + 0.0025 / 9) - 50)
    assert daly_interval(300, 100) == 100


@pytest.mark.parametrize("stall", [5.0, 60.0, 300.0])
def test_best_interval_is_that_of_the_closed_form(stall: float) -> None:
    run = replace(SMALL, checkpoint=CheckpointPolicy(600, stall), days=30)
    best = minimize_scalar(
        lambda log: -expected_goodput(saving_every(run, math.exp(log))), bounds=(2, 10), method="bounded"
    )
    chosen = best_interval(run, replicas=60)
    assert chosen.daly_s == pytest.approx(math.exp(best.x), rel=0.03)
    assert chosen.best_s == pytest.approx(math.exp(best.x), rel=0.25)
    assert expected_goodput(saving_every(run, chosen.best_s)) > -best.fun - 0.002


def test_copies_on_peers_leave_durable_checkpoints_for_racks() -> None:
    run = replace(SMALL, causes=(GPU, BUG, RACK))
    peers = replace(run, checkpoint=replace(run.checkpoint, peer_interval_s=60))
    assert first_interval(peers) > 2 * first_interval(run)
    assert first_interval(replace(peers, causes=(GPU,))) == run.horizon_s


def test_an_interval_is_never_shorter_than_writing_takes() -> None:
    run = replace(SMALL, checkpoint=CheckpointPolicy(5000, 1.0, 4000))
    assert first_interval(run) == 4000
    assert min(interval for interval, _ in best_interval(run, 3).tried) >= 4000


def test_spares_pay_until_hosts_in_repair_are_covered() -> None:
    run = replace(SMALL, causes=(GPU,), recovery=Recovery(300, 600, repair_s=20_000))
    choice = best_spares(run, 20)
    goodput = [tried.goodput.mean for tried in choice.tried]
    assert goodput == sorted(goodput)
    assert choice.best > 0
    assert choice.standby == poisson.ppf(0.99, 256 / 40 / 86400 * 20_000)
    first, last = choice.tried[1], choice.tried[-1]
    assert first.worth is not None and last.worth is not None
    assert first.worth > 1 > last.worth


def test_synchronous_training_loses_to_the_others_with_size() -> None:
    run = FleetRun(
        16_384,
        CheckpointPolicy(600, 3, 10),
        causes_of("llama3-h100"),
        days=10,
        replica_devices=256,
        learner_elastic=False,
        corruption_contained=True,
        recovery=Recovery(60, 600, spares=20),
    )
    sizes = [8192, 65_536, 524_288]
    curves = goodput_curves(run, sizes, learner_devices=8192, replicas=5)
    for mode in ("synchronous", "elastic"):
        means = [point.goodput.mean for point in curves.points[mode]]
        assert means == sorted(means, reverse=True)
    assert curves.points["semi-synchronous"][-1].goodput.mean > 0.9
    assert curves.crossing("semi-synchronous") == 65_536
    assert [point.extrapolation for point in curves.points["elastic"]] == [False, True, True]
    assert curves.to_dict()["synchronous_beaten_from"]["semi-synchronous"] == 65_536
    assert "semi-synchronous beats synchronous from 65,536 devices on" in curves.lines()


def test_no_crossing_when_nothing_fails() -> None:
    run = replace(SMALL, causes=(Cause("never", "host", 0.0),), replica_devices=16)
    curves = goodput_curves(run, [256, 512], learner_devices=256, replicas=2)
    assert curves.crossing("semi-synchronous") is None
    assert not any("beats" in line for line in curves.lines())


def test_curves_say_what_they_need() -> None:
    with pytest.raises(InputError, match="quorum_share"):
        goodput_curves(SMALL, [256], learner_devices=256, quorum_share=0.0)
    with pytest.raises(InputError, match="multiple of node_devices"):
        goodput_curves(SMALL, [257], learner_devices=8)
