"""What must hold for every simulated run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.fleet.choose import expected_goodput
from tenfold.planner.fleet.result import FleetResult
from tenfold.planner.fleet.run import Cause, CheckpointPolicy, EarlyFailures, FleetRun, Recovery, Stragglers, causes_of
from tenfold.planner.fleet.simulate import simulate_fleet
from tests.planner.fleet.runs import CORRUPT, GPU, GROUPS, LEARNERS, RUNS, SMALL

CHARGED = ("detection", "restart", "waiting_for_spares", "rework", "silent_corruption", "replicas_out")


def lost_share(result: FleetResult) -> float:
    return sum(lost.mean for lost in result.lost_by_kind.values()) / (result.run.devices * result.run.days * 24)


@pytest.mark.parametrize("name", RUNS)
def test_all_time_is_accounted_for_and_every_cause_is_charged(name: str) -> None:
    result = simulate_fleet(RUNS[name], 5)
    assert result.goodput.mean + lost_share(result) == pytest.approx(1.0, abs=1e-9)
    charged = sum(result.lost_by_kind[kind].mean for kind in CHARGED)  # type: ignore[index]
    assert sum(lost.mean for lost in result.lost_by_cause.values()) == pytest.approx(charged, rel=1e-9)


@st.composite
def any_run(draw: st.DrawFn) -> FleetRun:
    """Fleets of 64 devices with anything that can be set, however unlikely."""
    times = st.floats(0, 20_000)
    mode = draw(st.sampled_from(("synchronous", "elastic", "semi-synchronous")))
    learners = draw(st.sampled_from((1, 2, 4))) if mode == "semi-synchronous" else 1
    interval = draw(st.floats(1, 20_000))
    causes = (replace(GPU, per_day=draw(st.floats(0, 3))), replace(CORRUPT, per_day=draw(st.floats(0, 1))), *GROUPS[2:])
    return FleetRun(
        64,
        CheckpointPolicy(interval, draw(times), interval * draw(st.floats(0, 1)), draw(st.none() | st.floats(1, 5000))),
        causes,
        node_devices=4,
        sites=draw(st.sampled_from((1, 2))),
        days=draw(st.floats(0.01, 5)),
        mode=mode,
        recovery=Recovery(*(draw(times) for _ in range(2)), 64, 0.5, draw(times), draw(times), 3, draw(times), 900.0),
        learners=learners,
        quorum=draw(st.integers(1, learners)),
        learner_elastic=draw(st.booleans()),
        replica_devices=draw(st.sampled_from((2, 8, 16))),
        merge_s=draw(st.floats(1, 5000)),
        corruption_contained=draw(st.booleans()),
        fails_while_stopped=draw(st.booleans()),
        infant=EarlyFailures(draw(st.floats(0, 0.9))),
        stragglers=Stragglers(draw(st.floats(0, 2))),
        rate_log_sd=draw(st.floats(0, 1)),
    )


@settings(max_examples=150, deadline=None)
@given(any_run(), st.integers(0, 2**32))
def test_any_run_ends_with_shares_that_are_shares(run: FleetRun, seed: int) -> None:
    result = simulate_fleet(run, 2, seed)
    assert -1e-9 <= result.goodput.low <= result.goodput.high <= 1 + 1e-9
    assert all(lost.low >= -1e-6 * run.devices * run.days * 24 for lost in result.lost_by_kind.values())
    assert result.goodput.mean + lost_share(result) == pytest.approx(1.0, abs=1e-9)
    json.dumps(result.to_dict(), allow_nan=False)
    assert all(len(line) < 160 for line in result.lines())


def test_nothing_fails_then_only_checkpoints_cost() -> None:
    result = simulate_fleet(replace(SMALL, causes=(), checkpoint=CheckpointPolicy(1800, 0)), 3)
    assert result.goodput.mean == pytest.approx(1.0)
    assert result.failures.mean == 0
    assert result.to_dict()["mttf_hours"] is None
    stalled = simulate_fleet(
        replace(SMALL, causes=(replace(GPU, per_day=0.0),), checkpoint=CheckpointPolicy(900, 100)), 3
    )
    assert stalled.goodput.mean == pytest.approx(0.9)


def test_the_same_seed_gives_the_same_replicas_and_another_gives_others() -> None:
    first, again = simulate_fleet(SMALL, 10, seed=4), simulate_fleet(SMALL, 10, seed=4)
    assert first == again
    assert first != simulate_fleet(SMALL, 10, seed=5)


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("write", [20.0, 700.0])
def test_closed_form_of_synchronous_runs(stopped: bool, write: float) -> None:
    run = replace(SMALL, checkpoint=CheckpointPolicy(1800, 20, write), days=60, fails_while_stopped=stopped)
    result = simulate_fleet(run, 100)
    assert result.goodput.mean == pytest.approx(expected_goodput(run), abs=0.004)


def test_failures_are_as_many_as_the_rates_say() -> None:
    run = replace(SMALL, infant=EarlyFailures(0.1, 10 * 86400.0))
    expected = run.failures_per_s() * run.horizon_s + 256 * 0.1 * (1 - np.exp(-1))
    counts = simulate_fleet(run, 400).failures
    assert counts.mean == pytest.approx(expected, abs=4 * np.sqrt(expected / 400))


def test_burn_in_leaves_fewer_early_failures() -> None:
    new = simulate_fleet(replace(SMALL, causes=(), infant=EarlyFailures(0.5, 20 * 86400.0)), 50)
    old = simulate_fleet(replace(SMALL, causes=(), infant=EarlyFailures(0.5, 20 * 86400.0, 20 * 86400.0)), 50)
    assert old.failures.mean == pytest.approx(new.failures.mean * np.exp(-1), rel=0.1)


def test_a_rack_takes_its_hosts_and_destroys_the_copies_that_do_not_survive_it() -> None:
    rack = (Cause("rack", "rack", 1.0, group_nodes=4),)
    near = CheckpointPolicy(7200, 0, peer_interval_s=60)
    inside = simulate_fleet(replace(SMALL, causes=rack, checkpoint=near), 50)
    across = simulate_fleet(replace(SMALL, causes=rack, checkpoint=replace(near, peer_survives="rack")), 50)
    assert inside.lost_by_kind["rework"].mean > 20 * across.lost_by_kind["rework"].mean
    scarce = replace(SMALL, causes=rack, recovery=Recovery(spares=3, repair_s=3600))
    enough = replace(scarce, recovery=Recovery(spares=40, repair_s=3600))
    assert simulate_fleet(scarce, 20).lost_by_kind["waiting_for_spares"].mean > 0
    assert simulate_fleet(enough, 20).lost_by_kind["waiting_for_spares"].mean == 0


def test_a_straggler_slows_one_learner_but_a_whole_synchronous_job() -> None:
    slow = Stragglers(1 / 20, 0.2, 40_000)
    together = simulate_fleet(replace(SMALL, causes=(), stragglers=slow), 50)
    apart = simulate_fleet(replace(LEARNERS, causes=(), stragglers=slow), 50)
    assert apart.lost_by_kind["straggling"].mean < together.lost_by_kind["straggling"].mean / 3


def test_the_quorum_lets_learners_wait() -> None:
    all_needed = simulate_fleet(replace(LEARNERS, quorum=8), 20)
    one_needed = simulate_fleet(replace(LEARNERS, quorum=1), 20)
    assert one_needed.lost_by_kind["idle_learners"].mean == 0
    assert all_needed.goodput.high < one_needed.goodput.low


def test_doubt_about_the_rates_widens_the_interval() -> None:
    known, unknown = simulate_fleet(SMALL, 100).goodput, simulate_fleet(replace(SMALL, rate_log_sd=0.5), 100).goodput
    assert unknown.high - unknown.low > 2 * (known.high - known.low)


def test_larger_than_measured_is_called_extrapolation() -> None:
    run = FleetRun(65_536, CheckpointPolicy(600, 3), causes_of("rsc2-a100"), days=1)
    result = simulate_fleet(run, 2)
    assert result.to_dict()["extrapolation"] is True
    assert "extrapolation" in result.lines()[0]
    small = simulate_fleet(replace(run, devices=49_152), 2)
    assert small.to_dict()["extrapolation"] is False
    assert "extrapolation" not in " ".join(small.lines())


def test_ten_million_devices_for_ninety_days_take_seconds() -> None:
    run = FleetRun(
        10_000_000,
        CheckpointPolicy(1800, 3, 60),
        causes_of("llama3-h100"),
        days=90,
        mode="semi-synchronous",
        learners=1000,
        quorum=500,
        corruption_contained=True,
        recovery=Recovery(spares=20_000),
    )
    done: list[tuple[int, int]] = []
    result = simulate_fleet(run, 3, progress=lambda count, of: done.append((count, of)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert result.failures.mean > 300_000
    assert 0.8 < result.goodput.mean < 0.95


def test_more_failures_than_memory_holds_are_refused() -> None:
    run = FleetRun(10_000_000, CheckpointPolicy(1800), causes_of("one-a-year"), days=3650)
    with pytest.raises(InputError, match="simulate fewer days"):
        simulate_fleet(run, 1)
    with pytest.raises(InputError, match="at least 1"):
        simulate_fleet(SMALL, 0)
