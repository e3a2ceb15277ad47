"""Faults are planned the same every time, injected when they are due, and undone at the end."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tenfold.config import learners as config
from tenfold.config.base import Section, explain
from tenfold.core.processes import Children
from tenfold.learners.faults.inject import FaultContext, Injection
from tenfold.learners.faults.schedule import FaultInjector, planned
from tenfold.ledger.events import EventPayload, FaultInjected
from tests.learners.faults.busy import BUSY, Progress, start
from tests.waiting import until

LEARNERS = ["learner-0", "learner-1", "learner-2"]
TARGETS = [*LEARNERS, "syncer"]


class Root(Section):
    """What stands around the section."""

    chaos: config.Chaos = config.Chaos()


KINDS = [repr(kind) for kind in get_args(config.FaultKind)]
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"per_hour": -1.0}, "c.toml: chaos.per_hour = -1.0: input should be greater than or equal to 0"),
    ({"kinds": []}, "c.toml: chaos.kinds = []: list should have at least 1 item after validation, not 0"),
    (
        {"faults": [{"kind": "kill"}]},
        'c.toml: chaos.faults[0]: say when "kill" is due, by one of `at` and `at_seconds`',
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "at_seconds": 3.0}]},
        'c.toml: chaos.faults[0]: say when "kill" is due, by one of `at` and `at_seconds`',
    ),
    ({"faults": [{"kind": "kill", "at": 1.0}]}, "c.toml: chaos.faults[0].at = 1.0: input should be less than 1"),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "target": "learner"}]},
        'c.toml: chaos.faults[0].target = \'learner\': a target is "learner-0", "learner-1", …, "syncer", "syncer-1", '
        '… or "any"',
    ),
    (
        {"faults": [{"kind": "nan", "at": 0.1, "target": "syncer"}]},
        'c.toml: chaos.faults[0]: "nan" needs a learner as its target, or "any"',
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "amount": 2.0}]},
        'c.toml: chaos.faults[0]: "kill" takes no `amount`; slow, delay, loss, bandwidth, corrupt do',
    ),
    (
        {"faults": [{"kind": "loss", "at": 0.1, "amount": 2.0}]},
        "c.toml: chaos.faults[0]: amount 2 of a loss is a share, at most 1",
    ),
    (
        {"faults": [{"kind": "slow", "at": 0.1, "amount": 0.5}]},
        "c.toml: chaos.faults[0]: amount 0.5 of a slow says how many times slower, above 1",
    ),
    (
        {"faults": [{"kind": "corrupt", "at": 0.1, "amount": 1.5}]},
        "c.toml: chaos.faults[0]: amount 1.5 of a corrupt is a number of chunks, a whole one",
    ),
    (
        {"faults": [{"kind": "kil", "at": 0.1}]},
        f"c.toml: chaos.faults[0].kind = 'kil': input should be {', '.join(KINDS[:-1])} or {KINDS[-1]}",
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "sekonds": 3.0}]},
        "c.toml: unknown key 'chaos.faults[0].sekonds'; did you mean 'seconds'?",
    ),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES)
def test_a_mistake_in_the_section_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Root.model_validate({"chaos": values})
    assert explain(caught.value, "c.toml", root=Root) == message


def test_planned_faults_come_as_written() -> None:
    faults = [
        config.Fault(kind="slow", target="learner-1", at=0.25, seconds=2.0, amount=3.0),
        config.Fault(kind="nan", at_seconds=7.0),
    ]
    slow, nan = planned(config.Chaos(faults=faults), TARGETS, 60.0, seed=0)
    assert slow == Injection("slow", "learner-1", None, 0.25, 2.0, 3.0)
    assert (nan.kind, nan.at_seconds, nan.target in LEARNERS) == ("nan", 7.0, True)
    assert [slow.is_due(0, 0.24), slow.is_due(99, 0.25), nan.is_due(6.9, 1), nan.is_due(7, 0)] == [False, True] * 2
    assert config.Chaos() == Root().chaos and planned(config.Chaos(), TARGETS, 1e6, seed=0) == []


KINDS = st.lists(st.sampled_from(["kill", "stop", "hang", "nan", "loss"]), min_size=1, unique=True)


@settings(max_examples=25)
@given(
    KINDS, st.floats(0.1, 600.0), st.floats(0.0, 3600.0), st.floats(0.0, 3600.0), st.integers(0, 99), st.integers(1, 4)
)
def test_random_faults_are_drawn_the_same_and_a_longer_run_only_adds(
    kinds: list[config.FaultKind], per_hour: float, short: float, more: float, seed: int, count: int
) -> None:
    plan, targets = config.Chaos(kinds=kinds, per_hour=per_hour, seed=seed), TARGETS[-count:]
    faults = planned(plan, targets, short, seed=1)
    assert faults == planned(plan, targets, short, seed=1)
    assert planned(plan, targets, short + more, seed=1)[: len(faults)] == faults
    times = [fault.at_seconds or 0.0 for fault in faults]
    assert times == sorted(times) and all(0 < at < short for at in times)
    assert all(fault.kind in kinds and fault.target in targets for fault in faults)
    assert not any(fault.target == "syncer" and fault.kind in config.LEARNERS_ONLY for fault in faults)


def test_random_faults_are_a_poisson_process() -> None:
    """Counts of 200 hours at 20 an hour: mean 20 ± 4 standard errors, variance as large as the mean."""
    faults = planned(config.Chaos(per_hour=20.0), TARGETS, 200 * 3600.0, seed=3)
    counts = [0] * 200
    for fault in faults:
        counts[int((fault.at_seconds or 0.0) // 3600)] += 1
    mean = sum(counts) / 200
    variance = sum((count - mean) ** 2 for count in counts) / 199
    assert mean == pytest.approx(20.0, abs=4 * (20 / 200) ** 0.5)
    assert 0.6 < variance / mean < 1.4
    assert {fault.kind for fault in faults} == {"kill", "stop", "hang"}
    assert {fault.target for fault in faults if fault.kind == "kill"} == set(TARGETS)
    assert faults != planned(config.Chaos(per_hour=20.0), TARGETS, 200 * 3600.0, seed=4)


def test_chaos_says_what_it_does_and_undoes_it_at_the_end(children: Children, tmp_path: Path) -> None:
    said: list[tuple[EventPayload, str]] = []
    share, count = [0.0], Progress(tmp_path / "count")
    start(children, tmp_path, BUSY)
    until(lambda: count() > 0)
    plan = [
        Injection("stop", "learner-0", at_seconds=0.0, seconds=0.3),
        Injection("nan", "learner-0", at_seconds=0.1),
        Injection("stop", "learner-0", at=0.5, seconds=1e9),
    ]

    def say(what: EventPayload, message: str) -> None:
        said.append((what, message))

    with FaultInjector(plan, FaultContext(children, {}), say, share=lambda: share[0]) as chaos:
        until(lambda: len(said) == 3)
        assert count.rate(0.1) > 0, "over, and the one by share has not come yet"
        share[0] = 0.5
        until(lambda: len(said) == 4)
        chaos.add(Injection("slow", "learner-0", at_seconds=0.0, seconds=1e9, amount=2.0))
        until(lambda: len(said) == 5)
        assert count.rate(0.1) == 0
    assert count.rate(0.2) > 0
    assert [(what.kind, message) for what, message in said] == [
        ("chaos", "stop of learner-0 for 0.3 s"),
        ("chaos-skipped", "nan: learner-0 does not listen to SIGUSR2 (yet)"),
        ("chaos-over", "stop of learner-0 is over"),
        ("chaos", "stop of learner-0 for 1e+09 s"),
        ("chaos", "slow of learner-0 for 1e+09 s"),
        ("chaos-over", "stop of learner-0 is over"),
        ("chaos-over", "slow of learner-0 is over"),
    ]
    assert said[4][0] == FaultInjected("slow", "learner-0", seconds=1e9, amount=2.0)
