"""A turn is said once, and not for noise; a resumed run knows what the one before has said."""

import json

from tenfold.evaluate.turning import LARGE_RISE, RISE, Lowest, TurnWatch


def turns(watch: TurnWatch, *values: float, first: int = 1) -> list[int]:
    return [step for step, value in enumerate(values, first) if watch.observe(step, {"iid": value})]


def test_a_turn_is_said_once_until_the_score_is_lower_than_ever() -> None:
    assert turns(TurnWatch(), 3.0, 2.5, 2.6, 2.6, 2.7, 2.8) == [4]
    assert turns(TurnWatch(), 3.0, 2.5, 2.6, 2.6, 2.4, 2.45, 2.5) == [4, 7]


def test_one_small_rise_is_noise_and_a_large_one_is_none() -> None:
    assert turns(TurnWatch(), 3.0, 2.5, 2.6, 2.51, 2.6, 2.4) == []
    assert turns(TurnWatch(), 3.0, 2.5, 2.5 * (1 + RISE), 2.5 * (1 + RISE), 2.5, 2.4) == []
    assert turns(TurnWatch(), 3.0, 2.5, 2.501 * (1 + LARGE_RISE)) == [3]


def test_each_holdout_has_its_own_turn() -> None:
    watch = TurnWatch()
    watch.observe(1, {"iid": 2.0, "far": 3.0})
    (turn,) = watch.observe(2, {"iid": 2.2, "far": 2.9})
    assert (turn.holdout, turn.step, turn.lowest_step, turn.lowest) == ("iid", 2, 1, 2.0)
    assert watch.lowest == {"iid": Lowest(1, 2.0), "far": Lowest(2, 2.9)}


def test_a_resumed_run_goes_on_from_its_checkpoint() -> None:
    before, after = TurnWatch(), TurnWatch()
    assert turns(before, 3.0, 2.5, 2.6) == []
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert turns(after, 2.6, 2.7, 2.3, 2.5, first=4) == [4, 7]
    assert after.lowest == {"iid": Lowest(6, 2.3)}
