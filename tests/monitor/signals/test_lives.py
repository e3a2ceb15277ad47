"""What differs between two lives of a run is told when it goes on, and no secret with it."""

import dataclasses
from pathlib import Path

import pytest

from tenfold.config import Campaign
from tenfold.ledger import LifeChanged
from tenfold.monitor.signals.lives import Lives, differences_of, this_life
from tenfold.train import Observer, Observers


def told(before: Campaign, now: Campaign, monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[LifeChanged]:
    """What is told by a run that was saved with `before` and goes on with `now` in another environment."""
    saved = Observers([Lives(before)]).state_dict()
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    notices: list[LifeChanged] = []
    teller = type("Teller", (Observer,), {"noticed": lambda self, notice: notices.append(notice.what)})()
    observers = Observers([Lives(now), teller])
    observers.load_state_dict(saved)
    observers.resumed(7, None)  # type: ignore[arg-type]
    observers.resumed(7, None)  # type: ignore[arg-type]  # as after going back: the life is the same
    return notices


def test_the_same_life_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(Campaign(), Campaign(), monkeypatch) == []


def test_a_variable_and_a_setting_are_told_with_both_values(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Campaign.model_validate({"train": {"log_every": 3}, "checkpoint": {"url": "s3://user:secret@host/runs"}})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (found,) = told(Campaign(), other, monkeypatch, OMP_NUM_THREADS="2", TENFOLD_TOKEN="secret", NCCL_DEBUG="INFO")
    assert dataclasses.asdict(found)["step"] == 7
    assert found.changes == {
        "environment.NCCL_DEBUG": [None, "INFO"],
        "environment.OMP_NUM_THREADS": ["1", "2"],
        "settings.checkpoint.url": ["None", "s3://…@host/runs"],
        "settings.train.log_every": ["10", "3"],
    }


def test_what_came_and_what_went_are_differences() -> None:
    assert differences_of({"a": "1", "b": "2"}, {"b": "2", "c": "3"}) == {"a": ["1", None], "c": [None, "3"]}


def test_a_life_names_its_machine() -> None:
    life = this_life({})
    assert life["machine.host"] and life["machine.torch"] and Path("/") and "settings" not in life
