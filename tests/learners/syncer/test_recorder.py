"""What is said reaches the ledger, whatever the disk and strangers do."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.learners.syncer.recorder import REFUSALS_AGAIN_S, REFUSALS_AT_ONCE, Recorder, Refusals
from tenfold.ledger import Ledger, SyncerServing
from tests.waiting import until


def opens(path: Path) -> Callable[[], tuple[Ledger, int]]:
    def open_ledger() -> tuple[Ledger, int]:
        ledger = Ledger(path)
        return ledger, ledger.start_run("train", "f", {})

    return open_ledger


def test_a_ledger_that_cannot_be_opened_at_first_gets_all_of_it_later(tmp_path: Path) -> None:
    said: list[str] = []
    works = opens(tmp_path / "ledger.sqlite")
    failures = [TenfoldError("ledger.sqlite: no space left")] * 2

    def open_ledger() -> tuple[Ledger, int]:
        if failures:
            raise failures.pop()
        return works()

    recorder = Recorder(open_ledger, said.append)
    recorder.say(SyncerServing(), "serves")
    recorder.loss(3, 16.0, 8, 8.0)
    until(lambda: not failures)
    recorder.close()
    with closing(Ledger(tmp_path / "ledger.sqlite", read_only=True)) as ledger:
        assert [event.kind for event in ledger.events()] == ["serving"]
        assert ledger.metric(1, "train/loss") == [(3, 2.0)]
    assert sum("no space left; tried again" in line for line in said) == 1


def test_a_figure_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    said: list[str] = []
    recorder = Recorder(opens(tmp_path / "ledger.sqlite"), said.append)
    recorder.loss(10**30, 16.0, 8, 8.0)
    recorder.metric(2, "no such metric", 1.0)
    recorder.loss(3, 16.0, 8, 8.0)
    recorder.close()
    with closing(Ledger(tmp_path / "ledger.sqlite", read_only=True)) as ledger:
        assert ledger.metric(1, "train/loss") == [(3, 2.0)]
    assert any("are left out" in line for line in said)


@pytest.mark.parametrize("calls", [10_000])
def test_ten_thousand_refusals_are_a_few_rows(tmp_path: Path, calls: int) -> None:
    recorder = Recorder(opens(tmp_path / "ledger.sqlite"), lambda line: None)
    for _ in range(calls):
        recorder.rejected("a call with no token")
    recorder.close()
    with closing(Ledger(tmp_path / "ledger.sqlite", read_only=True)) as ledger:
        assert len(ledger.events()) == REFUSALS_AT_ONCE


def test_every_refusal_is_counted_in_some_row() -> None:
    refusals, now, told, heard = Refusals(), time.monotonic(), 0, 0
    for second in range(600):
        for _ in range(50):
            heard += 1
            told += refusals.heard(now + second)
    assert heard - told < 50 * REFUSALS_AGAIN_S
    assert refusals.heard(now + 10_000) > 0
