"""When a ledger was last written to, whoever reads it meanwhile."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.core import InputError
from tenfold.ledger import Ledger
from tenfold.monitor.reading import last_write, ledger_of
from tests.monitor.ledgers import write_small_ledger


def test_reading_is_no_sign_of_life(tmp_path: Path) -> None:
    path = write_small_ledger(tmp_path)
    os.utime(path, (1000, 1000))
    for _ in range(2):
        with ledger_of(tmp_path) as ledger:
            assert ledger.runs() and last_write(path) == 1000
    assert last_write(path) == 1000


def test_a_write_is_one_before_and_after_the_log_is_folded_in(tmp_path: Path) -> None:
    path = write_small_ledger(tmp_path)
    os.utime(path, (1000, 1000))
    with closing(Ledger(path)) as ledger:
        ledger.log(2, {9: {"train/loss": 1.0}})
        assert last_write(path) > 1e9
    assert last_write(path) > 1e9


def test_nothing_can_be_written_and_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    write_small_ledger(tmp_path)
    with ledger_of(tmp_path) as ledger, pytest.raises(Exception, match="write to the ledger"):
        ledger.log(2, {9: {"train/loss": 1.0}})
    with pytest.raises(InputError, match="no such ledger"), ledger_of(tmp_path / "nowhere"):
        pass
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        assert db.execute("SELECT count(*) FROM metrics WHERE step = 9").fetchone() == (0,)
