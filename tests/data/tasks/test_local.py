"""Workers of this machine that die, and that refuse."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.core import InputError, TenfoldError
from tenfold.data.tasks import local
from tenfold.data.tasks.local import Workers
from tests.data.tasks.builds import build_mixture, cut_small, write_mixture


class Nobody:
    """Is told how far the tasks are."""

    def __init__(self) -> None:
        self.finished: list[int] = []

    def beat(self, number: int, size: int) -> None:
        pass

    def done(self, number: int) -> None:
        self.finished.append(number)


def test_a_worker_that_dies_of_a_task_gets_it_three_times_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does that the kernel kills because memory is short."""
    monkeypatch.setattr(local, "MODULE", "tests.data.tasks.dying")
    monkeypatch.setenv("DEATHS", str(tmp_path))
    with (
        pytest.raises(
            TenfoldError, match=r"task keep 1: its worker ended 3 times \(SIGKILL\); set fewer data\.workers"
        ),
        Workers(2) as workers,
    ):
        workers.run("address", "token", "keep", [1, 2], Nobody())
    assert len(list(tmp_path.glob("1-*"))) == 3


def test_a_worker_killed_in_between_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mixture(tmp_path)
    alone = build_mixture(tmp_path, "alone", workers=1)
    cut_small(monkeypatch)
    killed: list[list[object]] = []  # one task is not hit twice: a task whose worker dies each time is given up
    ask = local._Worker._ask

    def ask_and_kill(worker: local._Worker, task: list[object], beat: Callable[[int], None]) -> object:
        if len(killed) < 3 and task not in killed:
            killed.append(task)
            os.kill(worker._process.pid, signal.SIGKILL)
        return ask(worker, task, beat)

    monkeypatch.setattr(local._Worker, "_ask", ask_and_kill)
    assert build_mixture(tmp_path, "killed", workers=2) == alone
    assert len(killed) == 3


def test_what_a_worker_refuses_is_one_line_of_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_small(monkeypatch)
    write_mixture(tmp_path)
    for path in (tmp_path / "texts").iterdir():
        path.write_bytes(b"tiny")
    with pytest.raises(InputError, match=r"source 'texts': no usable text"):
        build_mixture(tmp_path, "refused", workers=2)
    assert not list(tmp_path.glob(".refused*")), "nothing is kept of a build that cannot go on"
