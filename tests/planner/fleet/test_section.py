"""`[fleet]` in TOML, and runs that cannot be."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.fleet.choose import standby_spares
from tenfold.planner.fleet.run import CheckpointPolicy, EarlyFailures, FleetRun, Recovery, Stragglers
from tenfold.planner.fleet.section import FleetSection, fleet_run, load_fleet, parse_fleet
from tenfold.planner.fleet.simulate import simulate_fleet
from tenfold.planner.hardware.accelerator import Accelerator
from tenfold.planner.hardware.cluster import Cluster, Site, Tier
from tests.planner.fleet.runs import ELASTIC, GPU, LEARNERS, SMALL

CLUSTER = Cluster(
    name="test",
    accelerator=Accelerator("a", "v", False, {}, {}, 80e9, 3e12, "link", 4e11, 8, 5e10, 700.0, "made up", ""),
    devices=1024,
    node_devices=8,
    tiers=(Tier("node", 8, 4e11, 1.0, 1e-6), Tier("all", 1024, 5e10, 1.0, 1e-5)),
    sites=(Site("one", 512), Site("two", 512)),
    wide=None,
    host_memory_bytes=1e12,
    storage_bandwidth=1e11,
    price_per_device_hour=0.0,
    power_usage_effectiveness=1.2,
)

FULL = """
[cluster]
anything = "is not looked at"
[fleet]
profile = "none"
days = 5
mode = "semi-synchronous"
learners = 8
quorum = 4
checkpoint_bytes = 3e12
checkpoint_stall_s = 2.0
infant_share = 0.05
[[fleet.cause]]
name = "site power"
component = "site"
per_day = 0.01
group_nodes = 0
"""


def test_a_table_and_a_cluster_make_a_run(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(FULL)
    run = load_fleet(tmp_path / "plan.toml", CLUSTER)
    assert (run.devices, run.sites, run.learners, run.quorum, run.days) == (1024, 2, 8, 4, 5.0)
    assert run.checkpoint.write_s == pytest.approx(30.0)
    assert run.checkpoint.stall_s == 2.0
    assert [cause.name for cause in run.causes] == ["site power"]
    assert run.group_nodes(run.causes[0]) == 64
    assert simulate_fleet(run, 2).goodput.mean > 0.5


def test_defaults_are_a_run_with_dalys_interval() -> None:
    run = fleet_run(parse_fleet({}, "plan.toml"), CLUSTER)
    assert run.causes
    assert 100 < run.checkpoint.interval_s <= run.horizon_s
    assert run.recovery.spares == standby_spares(run) > 0
    assert fleet_run(FleetSection(spares=0), CLUSTER).recovery.spares == 0
    fixed = fleet_run(FleetSection(checkpoint_interval_s=777.0), CLUSTER)
    assert fixed.checkpoint.interval_s == 777.0


BAD_TABLES: list[tuple[dict[str, Any], str]] = [
    ({"days": -1.0}, r"plan.toml: fleet.days = -1.0: input should be greater than 0"),
    ({"mode": "async"}, r"fleet.mode = 'async'"),
    ({"learnerz": 2}, r"unknown key 'fleet.learnerz'.*learners"),
    ({"profile": "h100"}, r"reliability profile 'h100': there is none; use one of"),
    ({"cause": [{"name": "x", "component": "gpu", "per_day": 1.0}]}, r"fleet.cause.*component = 'gpu'"),
    ({"quorum": 2}, r"quorum = 2: must be from 1 to learners = 1"),
    ({"learners": 129, "mode": "semi-synchronous"}, r"learners = 129: must be from 1 to the 128 hosts"),
    (
        {"checkpoint_bytes": 1e15, "checkpoint_interval_s": 60.0, "checkpoint_stall_s": 0.0},
        r"shorter than writing takes",
    ),
]


@pytest.mark.parametrize(("table", "message"), BAD_TABLES)
def test_a_bad_table_gives_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fleet_run(parse_fleet({"fleet": table}, "plan.toml"), CLUSTER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[fleet", "fleet = 3", "[[fleet]]\ndays = 1"])
def test_text_that_is_no_table_gives_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_fleet(tmp_path / "plan.toml", CLUSTER)
    assert "\n" not in str(caught.value)


def test_no_file_and_no_storage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_fleet(tmp_path / "none.toml", CLUSTER)
    with pytest.raises(InputError, match="storage bandwidth above 0"):
        fleet_run(FleetSection(checkpoint_bytes=1e12), replace(CLUSTER, storage_bandwidth=0.0))


BAD_RUNS: list[tuple[Callable[[], FleetRun], str]] = [
    (lambda: replace(SMALL, devices=257), "multiple of node_devices"),
    (lambda: replace(SMALL, devices=0), "above 0"),
    (lambda: replace(SMALL, sites=33), "sites = 33: at most the 32 hosts"),
    (lambda: replace(SMALL, days=float("nan")), "days = nan"),
    (lambda: replace(SMALL, learners=2), "only semi-synchronous"),
    (lambda: replace(SMALL, mode="elastic"), "replica_devices = 0"),
    (lambda: replace(ELASTIC, replica_devices=257), "replica_devices = 257"),
    (lambda: replace(LEARNERS, quorum=9), "quorum = 9: must be from 1 to learners = 8"),
    (lambda: replace(LEARNERS, merge_s=0.0), "merge_s = 0.0"),
    (lambda: replace(SMALL, checkpoint=CheckpointPolicy(0.0)), "interval_s = 0.0: must be above 0"),
    (lambda: replace(SMALL, checkpoint=CheckpointPolicy(60.0, peer_interval_s=0.0)), "peer_interval_s"),
    (lambda: replace(SMALL, causes=(replace(GPU, per_day=-1.0),)), "cause 'gpu': per_day = -1.0"),
    (lambda: replace(SMALL, causes=(replace(GPU, group_nodes=2),)), "group_nodes = 2"),
    (lambda: replace(SMALL, causes=(GPU, GPU)), "same name"),
    (lambda: replace(SMALL, recovery=Recovery(-1.0)), "detect_s = -1.0"),
    (lambda: replace(SMALL, recovery=Recovery(restart_devices=0)), "restart_devices"),
    (lambda: replace(SMALL, infant=EarlyFailures(1.0)), "shares: below 1"),
    (lambda: replace(SMALL, stragglers=Stragglers(0.1, 1.5)), "shares: below 1"),
]


@pytest.mark.parametrize(("make", "message"), BAD_RUNS, ids=[message for _, message in BAD_RUNS])
def test_a_run_that_cannot_be_gives_one_line(make: Callable[[], FleetRun], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([{}])


@given(st.dictionaries(st.sampled_from(sorted(FleetSection.model_fields)), VALUES, max_size=4))
def test_any_table_is_a_run_or_one_line(table: dict[str, Any]) -> None:
    try:
        fleet_run(parse_fleet({"fleet": table}, "plan.toml"), CLUSTER)
    except InputError as error:
        assert "\n" not in str(error)


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in FleetSection.model_fields)


def test_the_example_of_the_page_is_a_run() -> None:
    page = (Path(__file__).parents[3] / "docs" / "fleet.md").read_text(encoding="utf-8")
    example = page.split("```toml\n")[1].split("```")[0]
    assert fleet_run(parse_fleet(tomllib.loads(example), "docs/fleet.md"), CLUSTER).causes
