"""Orders reach a running supervisor once, and whoever gave them hears what became of them."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.launch.commands import (
    answer_command,
    check_name,
    clear_commands,
    commands_folder,
    drop_command,
    is_taken,
    send_command,
    take_commands,
)


def test_orders_are_taken_once_in_the_order_they_came(tmp_path: Path) -> None:
    reports: list[str] = []
    assert take_commands(tmp_path / "none", reports.append) == []
    for number in range(3):
        drop_command(tmp_path / "orders", {"order": "add", "number": number})
    assert [order.what["number"] for order in take_commands(tmp_path / "orders", reports.append)] == [0, 1, 2]
    assert take_commands(tmp_path / "orders", reports.append) == []
    assert reports == []


def test_who_orders_learns_whether_anybody_obeys(tmp_path: Path) -> None:
    order = drop_command(tmp_path, {"order": "good"})
    assert not is_taken(order, 0.1)
    assert not order.exists(), "a supervisor that starts later must not find it"
    order = drop_command(tmp_path, {"order": "good"})
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(is_taken, order, 10.0)
        assert [taken.what for taken in take_commands(tmp_path, pytest.fail)] == [{"order": "good"}]
        assert asked.result()
    drop_command(tmp_path, {"order": "old"})
    clear_commands(tmp_path)
    assert take_commands(tmp_path, pytest.fail) == []


@pytest.mark.parametrize("refusal", ["", "no learner learner-7; there are learner-0"])
def test_who_orders_hears_what_became_of_it(tmp_path: Path, refusal: str) -> None:
    folder = commands_folder(tmp_path / "learners")
    folder.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(send_command, tmp_path, {"what": "leave", "name": "learner-7"})
        while not (taken := take_commands(folder, pytest.fail)):
            time.sleep(0.01)
        answer_command(taken[0], refusal)
        if refusal:
            with pytest.raises(InputError, match="no learner learner-7"):
                asked.result()
        else:
            assert asked.result() == {"ordered": "leave"}
    assert list(folder.iterdir()) == []


BAD_ORDERS = {
    "half": b'{"order": ',
    "list": b"[1]",
    "bytes": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "digits": b"9" * 5000,
}


def test_what_is_no_order_is_set_aside_and_reported(tmp_path: Path) -> None:
    for name, content in BAD_ORDERS.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / ".half-written.json").write_text("{")
    drop_command(tmp_path, {"order": "good"})
    reports: list[str] = []
    assert [taken.what for taken in take_commands(tmp_path, reports.append)] == [{"order": "good"}]
    assert sorted(Path(line.split(": ")[0]).stem for line in reports) == sorted([*BAD_ORDERS, "folder", "pipe"])
    assert all(len(line) < 400 and "set aside as" in line for line in reports), reports
    again: list[str] = []
    assert take_commands(tmp_path, again.append) == []
    assert again == []
    assert (tmp_path / "half.json.refused").read_bytes() == BAD_ORDERS["half"]


def test_an_order_on_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(TenfoldError, match="a command cannot be written"):
        drop_command(tmp_path / "file" / "orders", {})


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../../../evil", "-x", "x" * 101, "syncer", "syncer-2"])
def test_a_name_that_is_no_learners_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        check_name(name)
    assert check_name("learner-7.b_c") == "learner-7.b_c"
