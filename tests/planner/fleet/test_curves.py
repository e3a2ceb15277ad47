"""Fleets of any size are simulated: learners that are not all as large, replicas that do not divide, sizes apart."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.fleet.curves import curves_around, fleet_of, goodput_of, learner_size
from tenfold.planner.fleet.events import first_node, unit_of, unit_weights
from tenfold.planner.fleet.run import FleetRun
from tenfold.planner.fleet.simulate import simulate_fleet
from tenfold.planner.hardware.cluster import default_cluster
from tests.planner.fleet.runs import ELASTIC, LEARNERS, SMALL


def with_learners(hosts: int, learners: int) -> FleetRun:
    return replace(LEARNERS, devices=8 * hosts, learners=learners, quorum=1, sites=1)


@given(hosts=st.integers(1, 400), data=st.data())
def test_hosts_are_shared_out_whole_and_as_evenly_as_they_can_be(hosts: int, data: st.DataObject) -> None:
    run = with_learners(hosts, data.draw(st.integers(1, hosts)))
    units = np.arange(run.units)
    sizes = first_node(run, units + 1) - first_node(run, units)
    assert sizes.sum() == hosts and sizes.max() - sizes.min() <= 1 and sizes.max() == run.unit_nodes
    assert np.array_equal(unit_of(run, np.arange(hosts)), np.repeat(units, sizes))
    assert np.mean(unit_weights(run, units)) == pytest.approx(1)


@given(hosts=st.integers(4, 60), learners=st.integers(1, 60), replica=st.integers(1, 400), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_shares_add_up_whatever_does_not_divide(hosts: int, learners: int, replica: int, seed: int) -> None:
    several = with_learners(hosts, min(learners, hosts))
    elastic = replace(ELASTIC, devices=8 * hosts, replica_devices=min(replica, 8 * hosts))
    for run in (several, elastic, replace(SMALL, devices=8 * hosts, sites=min(3, hosts))):
        found = simulate_fleet(run, 2, seed)
        lost = sum(part.mean for part in found.lost_by_kind.values()) / (run.devices * run.days * 24)
        assert found.goodput.mean + lost == pytest.approx(1) and 0 <= found.goodput.mean <= 1


def test_uneven_learners_lie_between_even_ones() -> None:
    fewer, uneven, more = (simulate_fleet(with_learners(252, count), 40).goodput.mean for count in (14, 31, 63))
    assert fewer < uneven < more


@pytest.mark.parametrize("devices", [1, 7, 100, 504, 1000, 3000])
def test_every_fleet_has_its_curves(devices: int) -> None:
    cluster = default_cluster("H100", devices)
    curves = curves_around(fleet_of("llama3-h100", cluster, 1e12), cluster, 96)
    assert set(curves.points) == {"synchronous", "elastic", "semi-synchronous"}
    assert all(0 <= point.goodput.mean <= 1 for points in curves.points.values() for point in points)


def test_a_size_has_the_same_figures_whichever_cluster_they_are_asked_from() -> None:
    asked = {devices: default_cluster("H100", devices) for devices in (512, 2048, 32_768)}
    runs = {devices: fleet_of("llama3-h100", cluster, 5e12) for devices, cluster in asked.items()}
    assert len({learner_size(run) for run in runs.values()}) == 1
    of_size: dict[tuple[str, int], set[float]] = {}
    for devices, cluster in asked.items():
        for mode, points in curves_around(runs[devices], cluster, 128).points.items():
            for point in points:
                of_size.setdefault((mode, point.devices), set()).add(round(point.goodput.mean, 9))
    shared = {key: found for key, found in of_size.items() if key[1] in (2048, 8192, 32_768)}
    assert len(shared) >= 6 and all(len(found) == 1 for found in shared.values()), shared


def test_goodput_of_a_part_that_is_no_whole_host() -> None:
    cluster = default_cluster("H100", 1000)
    goodput = goodput_of(fleet_of("llama3-h100", cluster))
    assert 0 < goodput(1000) < 1 and 0 < goodput(6) <= 1


def test_sizes_with_too_many_failures_are_left_out_and_named() -> None:
    cluster = default_cluster("H100", 1_000_000)
    run = replace(fleet_of("llama3-h100", cluster), days=3000.0)
    curves = curves_around(run, cluster, 96)
    assert 4_000_000 in curves.left_out and any("too many failures" in line for line in curves.lines())


def test_a_doubt_about_rates_that_never_ends_is_one_line() -> None:
    with pytest.raises(InputError, match="rate_log_sd"):
        simulate_fleet(replace(SMALL, rate_log_sd=60.0), 50)
