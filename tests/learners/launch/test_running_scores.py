"""Scores of a run while it goes on: when, of what, and that nothing else depends on them."""

import threading
from collections.abc import Mapping

from tenfold.learners.launch.run import RunningScores


class Noted:
    """What became of it."""

    def __init__(self) -> None:
        self.scores: list[tuple[int, Mapping[str, float]]] = []
        self.warnings: list[str] = []

    def running(self, score: object) -> RunningScores:
        """Every 100 steps."""
        assert callable(score)
        return RunningScores(100, score, lambda *found: self.scores.append(found), self.warnings.append)


def test_a_score_is_taken_at_every_multiple_passed_from_where_the_run_was_first_seen() -> None:
    noted = Noted()
    running = noted.running(lambda: {"iid": 2.0})
    for step in (130, 180, 205, 240, 310, 390):
        running.reached(step)
        running.close()
    assert [step for step, _ in noted.scores] == [205, 310]
    running.score(400)
    assert noted.scores[-1] == (400, {"iid": 2.0})


def test_one_at_a_time_and_what_falls_due_meanwhile_is_left_out() -> None:
    noted, going_on = Noted(), threading.Event()

    def slow() -> dict[str, float]:
        going_on.wait(10.0)
        return {"iid": 1.0}

    running = noted.running(slow)
    for step in (0, 100, 200, 300):
        running.reached(step)
    going_on.set()
    running.close()
    running.reached(310)
    running.close()
    assert [step for step, _ in noted.scores] == [100, 310]


def test_a_score_that_fails_is_said_and_the_run_goes_on() -> None:
    noted = Noted()

    def fail() -> dict[str, float]:
        raise MemoryError("no room")

    running = noted.running(fail)
    running.reached(0)
    running.reached(100)
    running.close()
    running.score(200)
    assert noted.scores == []
    assert noted.warnings == [f"no scores at step {step} (MemoryError: no room)" for step in (100, 200)]
