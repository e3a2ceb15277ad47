"""The bank: faults open one incident each, which is closed with a verdict; a resumed bank says the same."""

import json
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tenfold.ledger import IncidentClosed, IncidentKind, SignalIncident
from tenfold.monitor.detect.bank import Bank
from tenfold.monitor.detect.cases import SUGGESTIONS, Told
from tenfold.monitor.detect.groups import rows_of
from tenfold.monitor.detect.table import WATCHED, Memories
from tenfold.scaling import CurveForecast

MEMORIES = Memories(warm=150, relearn=60)
Change = Callable[[int, dict[str, float]], None]


def rows(steps: int, seed: int = 0, change: Change | None = None) -> Iterator[tuple[int, dict[str, float]]]:
    """Signals as a calm run has them: (step, values)."""
    random = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        noise = random.standard_normal(12).tolist()
        values = {
            "train/loss": (2.5 + 30 / (step + 20)) * math.exp(0.02 * noise[0]),
            "train/grad_norm": math.exp(0.15 * noise[1]),
            "train/learning_rate": 1e-3,
            "train/update_norm": 1e-3 * math.exp(0.03 * noise[2]),
            "block/0/grad_norm": 0.5 * math.exp(0.15 * noise[3]),
            "block/0/activation_rms": 1.2 * math.exp(0.02 * noise[4]),
            "block/1/activation_rms": 1.5 * math.exp(0.02 * noise[5]),
            "block/1/attention_logit": 6 * math.exp(0.1 * noise[6]),
            "data/repetition": 0.1 + 0.02 * noise[7],
            "time/step": 0.1 * math.exp(0.05 * noise[8]),
            "process/memory": 2e9 * (1 + 0.002 * abs(noise[9])),
            "disk/free": 1e11,
        }
        if change:
            change(step, values)
        yield step, values


def said(bank: Bank, given: Iterator[tuple[int, dict[str, float]]]) -> list[tuple[int, Told]]:
    return [(step, word) for step, values in given for word in bank.update(step, values, (8 * step - 8, 8 * step - 1))]


def opened(words: list[tuple[int, Told]]) -> list[tuple[int, SignalIncident]]:
    return [(step, word.what) for step, word in words if word.is_new and isinstance(word.what, SignalIncident)]


def closed(words: list[tuple[int, Told]]) -> list[tuple[int, IncidentClosed]]:
    return [(step, word.what) for step, word in words if isinstance(word.what, IncidentClosed)]


def times(name: str, factor: float, first: int = 300, last: int = 1 << 30) -> Change:
    """A signal multiplied from one step to another."""

    def change(step: int, values: dict[str, float]) -> None:
        if first <= step < last:
            values[name] *= factor

    return change


def test_a_calm_run_opens_nothing() -> None:
    assert said(Bank(memories=MEMORIES), rows(1500)) == []


def test_a_spike_opens_one_incident_with_samples_and_says_that_it_came_back() -> None:
    words = said(Bank(memories=MEMORIES), rows(500, change=times("train/loss", 1.5, 300, 306)))
    ((step, spike),) = opened(words)
    assert spike.kind == IncidentKind.LOSS_SPIKE and 300 <= step <= 302
    assert (spike.first_sample, spike.last_sample) == (8 * step - 8, 8 * step - 1)
    assert spike.value and spike.expected and spike.value / spike.expected == pytest.approx(1.5, rel=0.1)
    ((over, verdict),) = closed(words)
    assert verdict.cause == spike.cause and verdict.verdict.startswith("came back after about") and over < 400


def test_a_loss_that_stays_up_is_said_to_have_settled_there_and_no_second_incident_opens() -> None:
    words = said(Bank(memories=MEMORIES), rows(1400, change=times("train/loss", 1.3)))
    assert [what.kind for _, what in opened(words)] == [IncidentKind.LOSS_SPIKE]
    ((_, verdict),) = closed(words)
    found = re.fullmatch(r"did not come back, and stays: train/loss by \+([\d.]+)% of what it was", verdict.verdict)
    assert found and float(found.group(1)) == pytest.approx(30, abs=5)


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        (times("train/grad_norm", 30), IncidentKind.GRADIENT_EXPLOSION, None),
        (times("train/update_norm", 4), IncidentKind.UPDATE_EXPLOSION, None),
        (times("block/1/activation_rms", 0.3), IncidentKind.DEAD_BLOCK, "1"),
        (times("block/0/grad_norm", 0.0), IncidentKind.DEAD_BLOCK, "0"),
        (times("block/0/activation_rms", 3), IncidentKind.SATURATED_BLOCK, "0"),
        (times("block/1/attention_logit", 20), IncidentKind.ATTENTION_GROWTH, "1"),
        (times("data/repetition", 8), IncidentKind.DATA_ANOMALY, None),
        (times("time/step", 1.6), IncidentKind.SLOWDOWN, None),
        (times("disk/free", 0.001), IncidentKind.FAILING_STORAGE, None),
    ],
    ids=lambda value: str(getattr(value, "value", "")),
)
def test_each_kind_of_fault_is_named_with_its_place(change: Change, kind: IncidentKind, place: str | None) -> None:
    words = said(Bank(memories=MEMORIES), rows(420, change=change))
    ((step, what),) = opened(words)
    assert (what.kind, what.block) == (kind, place) and step >= 300
    assert what.cause == " ".join(filter(None, [kind, place]))
    first = next(word for _, word in words if word.is_new)
    assert first.message.startswith(f"step {step}: ") and first.message.endswith(SUGGESTIONS[what.action])
    assert first.evidence[0].where.startswith(what.signal)


def test_one_cause_that_many_signals_show_is_one_incident_with_evidence_of_all() -> None:
    def change(step: int, values: dict[str, float]) -> None:
        for offset, name in enumerate(("train/update_norm", "train/loss", "train/grad_norm", "block/0/activation_rms")):
            times(name, 3, 300 + 3 * offset)(step, values)

    words = said(Bank(memories=MEMORIES), rows(400, change=change))
    ((_, what),) = opened(words)
    assert what.kind == IncidentKind.UPDATE_EXPLOSION
    signals = {link.where.split()[0] for _, word in words for link in word.evidence if link.kind == "metric"}
    assert {"train/update_norm", "train/loss", "block/0/activation_rms"} <= signals


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_alarms_at_once_even_in_the_first_step(value: float) -> None:
    (word,) = Bank().update(1, {"train/loss": value})
    assert isinstance(word.what, SignalIncident) and word.what.kind == IncidentKind.NUMERICS and word.what.value is None
    json.dumps(word.what.to_dict(), allow_nan=False)


def test_replicas_that_differ_are_found_and_the_odd_one_is_named() -> None:
    digests = {f"digest/weights/learner-{number}": 7.0 for number in range(3)}
    assert Bank().update(1, digests) == []
    (word,) = Bank().update(1, digests | {"digest/weights/learner-2": 8.0})
    assert isinstance(word.what, SignalIncident) and word.what.cause == "replicas-disagree learner-2"
    (word,) = Bank().update(1, {"digest/weights/a": 1.0, "digest/weights/b": 2.0})
    assert isinstance(word.what, SignalIncident) and word.what.learner is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"probe/wrong": 1.0}, IncidentKind.SILENT_CORRUPTION),
        ({"data/mismatch": 2.0}, IncidentKind.DATA_ANOMALY),
        ({"numerics/non_finite": 5.0}, IncidentKind.NUMERICS),
        ({"device/gpu0/memory_errors": 3.0}, IncidentKind.SILENT_CORRUPTION),
    ],
)
def test_hard_faults_alarm_at_once_and_are_over_when_they_stop(values: dict[str, float], kind: IncidentKind) -> None:
    bank = Bank()
    assert bank.update(1, dict.fromkeys(values, 0.0)) == []
    (word,) = bank.update(2, values)
    assert isinstance(word.what, SignalIncident) and word.what.kind == kind
    words = [word for step in range(3, 420) for word in bank.update(step, values if "device" in str(values) else {})]
    (over,) = [word.what for word in words]
    assert isinstance(over, IncidentClosed) and over.verdict == "was not seen again for 400 steps" and not bank.open


def test_memory_that_grows_on_and_on_is_a_leak_and_memory_that_settles_is_not() -> None:
    def leak(step: int, values: dict[str, float]) -> None:
        values["process/memory"] *= 1 + 0.0002 * max(0, step - 700)

    def settles(step: int, values: dict[str, float]) -> None:
        values["process/memory"] *= 1 + 0.3 * (1 - math.exp(-max(0, step - 300) / 40))

    words = said(Bank(memories=MEMORIES), rows(2000, change=leak))
    assert [what.kind for _, what in opened(words)] == [IncidentKind.MEMORY_LEAK]
    assert said(Bank(memories=MEMORIES), rows(1500, change=settles)) == []


def test_levels_are_learnt_anew_where_a_change_was_planned() -> None:
    def larger_batch(step: int, values: dict[str, float]) -> None:
        values["samples"] = 8.0 if step < 300 else 64.0
        times("train/grad_norm", 0.2)(step, values)
        times("train/loss", 1.2)(step, values)

    assert said(Bank(memories=MEMORIES), rows(700, change=larger_batch)) == []
    switch = times("train/loss", 1.2)
    assert opened(said(Bank(memories=MEMORIES), rows(700, change=switch)))
    assert said(Bank(memories=MEMORIES, planned=[300]), rows(700, change=switch)) == []


def test_a_leap_of_the_learning_rate_is_a_change_and_a_slow_one_is_not() -> None:
    def decays(step: int, values: dict[str, float]) -> None:
        rate = 0.1 if step >= 300 else 1.0
        for name in ("train/learning_rate", "train/update_norm"):
            values[name] *= rate
        times("train/update_norm", 1.4)(step, values)  # relative to the rate, updates are larger after the leap

    assert said(Bank(memories=MEMORIES), rows(600, change=decays)) == []
    (found,) = opened(said(Bank(memories=MEMORIES), rows(600, change=times("train/update_norm", 1.4))))
    assert found[1].kind == IncidentKind.UPDATE_EXPLOSION


def forecast(bias: float) -> CurveForecast:
    steps = np.arange(1, 2001)
    losses = (2.5 + 30 / (steps + 20)) * bias
    record = {"level": 0.95, "low": (0.97 * losses).tolist(), "high": (1.03 * losses).tolist()}
    return CurveForecast.from_record(
        {"steps": steps.tolist(), "losses": losses.tolist(), "bands": [record], "method": "test", "errors": {}}
    )


def test_a_slow_divergence_is_found_before_the_loss_leaves_its_band() -> None:
    def creep(step: int, values: dict[str, float]) -> None:
        values["train/loss"] *= 1 + 0.00007 * max(0, step - 500)

    words = said(Bank(memories=MEMORIES, forecast=forecast(1.0)), rows(1500, change=creep))
    (first, *_) = opened(words)
    assert first[1].kind == IncidentKind.DIVERGENCE
    left = 500 + round(0.03 / 0.00007)  # where the mean reaches the band's upper edge
    assert 500 < first[0] < left


def test_a_loss_above_its_band_from_the_start_is_a_divergence() -> None:
    words = said(Bank(forecast=forecast(0.9)), rows(300))
    assert [(what.kind, what.signal) for _, what in opened(words)] == [(IncidentKind.DIVERGENCE, "train/loss")]


@pytest.mark.parametrize("cut", [100, 302, 330])
def test_a_bank_that_is_given_back_its_state_says_the_same_to_the_bit(cut: int) -> None:
    given = list(rows(500, change=times("train/loss", 1.5, 300, 306)))
    whole, first = Bank(memories=MEMORIES, forecast=forecast(1.0)), Bank(memories=MEMORIES, forecast=forecast(1.0))
    expected = said(whole, iter(given))
    before = said(first, iter(given[:cut]))
    second = Bank(memories=MEMORIES, forecast=forecast(1.0))
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert before + said(second, iter(given[cut:])) == expected
    assert json.dumps(second.state_dict()) == json.dumps(whole.state_dict())


def test_the_table_names_each_stream_once_and_knows_the_signals_of_the_ledger() -> None:
    assert len({(row.name, row.sign) for row in WATCHED}) == len(WATCHED)
    assert [row.name for row in rows_of("time/checkpoint", WATCHED)] == ["time/checkpoint"]
    assert {row.sign for row in rows_of("block/blocks.3/activation_rms", WATCHED)} == {1, -1}
    assert rows_of("holdout/web/bits_per_byte", WATCHED) == []
