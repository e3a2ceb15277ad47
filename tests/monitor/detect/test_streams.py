"""Trackers: scale does not matter, the past alone does, and their state is plain values."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.ledger import LossSpiked
from tenfold.monitor.detect.streams import Streams, WatchedStream
from tenfold.monitor.detect.table import Memories, Watched

PLAIN = Watched("x", "training", "share", LossSpiked, LossSpiked, 1, 0.0, 0.0, 0.0)
MEMORIES = Memories(warm=50, relearn=20)


def streams_of(*rows: Watched) -> Streams:
    streams = Streams(MEMORIES)
    streams.add([WatchedStream(row.name, row) for row in rows])
    return streams


def wealths(streams: Streams, values: np.ndarray) -> np.ndarray:
    """[steps, bets] e-detectors of the first stream."""
    rows = []
    for value in values:
        streams.update(np.full(len(streams.streams), value))
        rows.append(streams.wealth[:, 0].copy())
    return np.array(rows)


@given(st.integers(0, 1000), st.integers(-20, 20), st.sampled_from([0.0, -3.0, 1024.0]))
@settings(max_examples=20, deadline=None)
def test_neither_scale_nor_level_of_a_signal_matters(seed: int, power: int, level: float) -> None:
    noise = np.random.default_rng(seed).standard_t(4, 400)
    one = wealths(streams_of(PLAIN), noise + level)
    other = wealths(streams_of(PLAIN), (noise + level) * 2.0**power)
    np.testing.assert_allclose(one, other, rtol=1e-6)


@given(st.integers(0, 1000), st.integers(1, 299))
@settings(max_examples=15, deadline=None)
def test_a_state_that_went_through_json_goes_on_to_the_bit(seed: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((300, 2)).cumsum(axis=0)
    values[random.random((300, 2)) < 0.2] = np.nan  # not every signal is read in every step
    whole, first = streams_of(PLAIN, PLAIN), streams_of(PLAIN, PLAIN)
    for index, row in enumerate(values):
        whole.update(row)
        if index < cut:
            first.update(row)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second = Streams(MEMORIES)
    second.load_state_dict(state, [PLAIN])
    for row in values[cut:]:
        second.update(row)
    assert second.state_dict() == whole.state_dict()


def test_nothing_is_bet_before_the_signal_is_known_and_a_jump_is_after() -> None:
    noise = np.random.default_rng(2).standard_normal(200)
    streams = streams_of(PLAIN)
    assert not wealths(streams, np.append(noise[:49], 1000.0)).any()
    streams = streams_of(PLAIN)
    found = wealths(streams, np.append(noise, 60.0))
    assert found[-1, 0] > 1e5 > found[:-1].max()


def test_a_lasting_shift_is_a_drift_and_a_return_is_known_by_its_tolerance() -> None:
    noise = np.random.default_rng(4).standard_normal(400)
    streams = streams_of(Watched("x", "training", "share", LossSpiked, LossSpiked, 1, 0.0, 0.0, 0.5, tail=None))
    assert wealths(streams, noise).max() < 1e4
    level, tolerance, kept = streams.expected(0, jump=False), streams.tolerance(0), streams.kept(0)
    assert abs(level) < 0.3 and 0.25 <= tolerance < 1.5
    found = wealths(streams, noise[:60] + 3)
    assert found[-1, 1:].max() > 1e5 and (found[:, 0] < found[-1, 0] + 61).all()  # no bets on jumps: it only counts
    streams.set_back(0, kept)
    assert streams.kept(0) == kept and not streams.wealth.any()


def test_the_threshold_of_jumps_leaves_its_share_above_whatever_the_noise() -> None:
    random = np.random.default_rng(6)
    for noise in (random.standard_normal(6000), random.standard_t(2, 6000), random.exponential(1, 6000) ** 2):
        streams, above = streams_of(PLAIN), 0
        for index, value in enumerate(noise):
            residual, _ = streams._standardised(np.array([value]))
            above += int(index >= 1000 and residual[0] > streams._trackers["quantile"][0])
            streams.update(np.array([value]))
        assert above / 5000 == pytest.approx(0.05, abs=0.015)


def test_what_still_warms_up_is_not_believed_sooner_when_it_is_learnt_anew() -> None:
    streams = streams_of(PLAIN)
    streams.update(np.array([1.0]))
    streams.relearn([0])
    assert streams.need[0] == MEMORIES.warm
    wealths(streams, np.random.default_rng(1).standard_normal(MEMORIES.warm + 5))
    streams.relearn([0])
    assert streams.need[0] == MEMORIES.relearn and not streams.wealth.any()
