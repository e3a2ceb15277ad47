"""The observer that sends a run to a tracker from another process, and what becomes of one that fails."""

import importlib.util
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenfold.core import TenfoldError
from tenfold.ledger import Ledger
from tenfold.monitor.export.exporter import Exporter
from tenfold.train import Notice, Observer, Observers, Stopping
from tests import warm
from tests.campaign.small import built_campaign
from tests.monitor.ledgers import write_small_ledger
from tests.waiting import until

DONE = Stopping("done", 5)


class Told(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def noticed(self, notice: Notice) -> None:
        self.notices.append(notice)


def step(number: int) -> Any:
    return cast(Any, SimpleNamespace(step=number))


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return write_small_ledger(tmp_path / "mine").parent


def test_one_that_fails_is_taken_out_with_its_line_and_the_run_goes_on(campaign: Path) -> None:
    told = Told()
    observers = Observers([Exporter(campaign, "nowhere", 2), told])
    observers.started(0)
    until(lambda: observers.after_step(step(1)) is None and bool(told.notices))
    (notice,) = told.notices
    assert "observer tracker-nowhere failed and is taken out, the run goes on" in notice.message
    assert "there is none; use one of tensorboard" in notice.message
    observers.after_step(step(2))
    observers.stopping(DONE)
    assert len(told.notices) == 1


def test_one_that_cannot_begin_says_so(campaign: Path) -> None:
    exporter = Exporter(campaign, "tensorboard", 77)
    exporter.started(0)
    with pytest.raises(TenfoldError, match="no run 77"):
        exporter.stopping(DONE)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs the package tensorboard")
def test_the_end_waits_for_what_was_written_last(campaign: Path) -> None:
    exporter = Exporter(campaign, "tensorboard", 2)
    exporter.started(0)
    with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
        ledger.log(2, {4: {"train/loss": 2.0}})
        exporter.after_step(step(4))
        ledger.log(2, {5: {"train/loss": 1.0}})
    exporter.stopping(DONE)
    (memory,) = (campaign / "trackers" / "tensorboard").glob("sent-*.json")
    assert json.loads(memory.read_text())["train/loss"] == 5


def test_a_run_is_sent_while_it_trains_or_says_why_not(tmp_path: Path) -> None:
    campaign = built_campaign(tmp_path / "run")
    warm.run(["train", str(campaign), "--set", 'watch.trackers=["mlflow"]'], check=True)
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        (run,) = (run for run in ledger.runs() if run.kind == "train")
        incidents = [each.message for each in ledger.incidents(run.id) if "tracker-mlflow" in each.message]
        losses = ledger.metric(run.id, "train/loss")
        assert run.status == "done" and ledger.metric(run.id, "probe/wrong")[0] == (0, 0.0)
    if importlib.util.find_spec("mlflow") is None:
        (message,) = incidents
        assert "the run goes on without it" in message and "pip install 'tenfold[mlflow]'" in message
        return
    (memory,) = (campaign / "trackers" / "mlflow").glob("sent-*.json")
    assert incidents == [] and json.loads(memory.read_text())["train/loss"] == losses[-1][0]
