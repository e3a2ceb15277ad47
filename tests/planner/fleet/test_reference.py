"""The fast simulation against the plain one, which takes one failure after another with a clock for every component."""

import numpy as np
import pytest

from tenfold.planner.fleet.simulate import simulate_fleet
from tests.planner.fleet.reference import simulate_reference
from tests.planner.fleet.runs import RUNS

PLAIN, FAST = 48, 300
APPROXIMATE = {"checkpoint_stall": 0.12, "replicas_out": 0.05, "restart": 0.04}
"""Relative difference that the documented approximations may make: mean stalls, replicas struck at random."""


@pytest.mark.parametrize("name", RUNS)
def test_fast_and_plain_simulation_agree_within_sampling_error(name: str) -> None:
    run = RUNS[name]
    plain = [simulate_reference(run, seed) for seed in range(PLAIN)]
    fast = simulate_fleet(run, FAST, seed=1)
    hours = run.devices * run.days * 24
    simulated = {kind: lost.mean / hours for kind, lost in fast.lost_by_kind.items()} | {"goodput": fast.goodput.mean}
    for kind, value in simulated.items():
        values = np.array([replica[kind] for replica in plain])
        error = values.std() * np.sqrt(1 / PLAIN + 1 / FAST)
        allowed = 4 * error + APPROXIMATE.get(kind, 0.0) * values.mean() + 1e-4
        assert abs(value - values.mean()) <= allowed, (kind, value, values.mean(), error)


@pytest.mark.parametrize("name", RUNS)
def test_plain_simulation_accounts_for_all_time(name: str) -> None:
    assert sum(simulate_reference(RUNS[name], seed=3).values()) == pytest.approx(1.0, abs=1e-6)
