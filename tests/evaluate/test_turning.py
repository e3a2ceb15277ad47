"""A turn is said once, and not for noise; a resumed run knows what the one before has said."""

import json

from tenfold.evaluate.turning import RISE, Lowest, TurnWatch


def turns(watch: TurnWatch, *values: float, first: int = 1) -> list[int]:
    return [step for step, value in enumerate(values, first) if watch.observe(step, {"iid": value})]


def test_a_turn_is_said_once_until_the_score_is_lower_than_ever() -> None:
    assert turns(TurnWatch(), 3.0, 2.5, 2.6, 2.7, 2.8) == [3]
    assert turns(TurnWatch(), 3.0, 2.5, 2.6, 2.4, 2.45) == [3, 5]
    assert turns(TurnWatch(), 3.0, 2.5, 2.5 * (1 + RISE), 2.5, 2.4) == []


def test_each_holdout_has_its_own_turn() -> None:
    watch = TurnWatch()
    watch.observe(1, {"iid": 2.0, "far": 3.0})
    (turn,) = watch.observe(2, {"iid": 2.1, "far": 2.9})
    assert (turn.holdout, turn.step, turn.lowest_step, turn.lowest) == ("iid", 2, 1, 2.0)
    assert watch.lowest == {"iid": Lowest(1, 2.0), "far": Lowest(2, 2.9)}


def test_a_resumed_run_goes_on_from_its_checkpoint() -> None:
    before, after = TurnWatch(), TurnWatch()
    assert turns(before, 3.0, 2.5, 2.6) == [3]
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert turns(after, 2.7, 2.3, 2.4, first=4) == [6]
    assert after.lowest == {"iid": Lowest(5, 2.3)}
