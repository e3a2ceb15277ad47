"""The shipped tables."""

import pytest

from tenfold.core.errors import InputError
from tenfold.planner.fleet.run import CheckpointPolicy, FleetRun, load_profile, profile_names, timings


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_has_sources_and_makes_a_run(name: str) -> None:
    profile = load_profile(name)
    assert all(profile.sources)
    assert profile.evidence in ("primary", "secondary", "derived")
    run = FleetRun(16_384, CheckpointPolicy(3600), profile.causes)
    assert run.failures_per_s() > 0


def test_llama3_rates_are_its_466_interruptions() -> None:
    causes = load_profile("llama3-h100").causes
    run = FleetRun(16_384, CheckpointPolicy(3600), causes, days=54)
    assert run.failures_per_s() * run.horizon_s == pytest.approx(466)
    unplanned = sum(c.per_day * run.components(c) for c in causes if c.name != "planned interruption") * 54
    assert unplanned == pytest.approx(419)


def test_rsc_law_gives_the_published_projection() -> None:
    run = FleetRun(16_384, CheckpointPolicy(3600), load_profile("rsc1-a100").causes)
    assert 1 / run.failures_per_s() / 3600 == pytest.approx(1.8, rel=0.01)


def test_every_timing_has_a_source_or_says_that_it_is_an_assumption() -> None:
    assert all(timing.source or timing.evidence == "assumption" for timing in timings().values())


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'h100'.*llama3-h100"):
        load_profile("h100")
