"""`tenfold metrics` as people call it."""

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests import warm
from tests.monitor.ledgers import write_small_ledger


def test_it_prints_the_newest_values(tmp_path: Path) -> None:
    write_small_ledger(tmp_path)
    done = warm.run(["metrics", str(tmp_path)], check=True)
    assert 'tenfold_train_loss{run="2",kind="train"} 2.5\n' in done.stdout and done.stderr == ""


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    write_small_ledger(tmp_path)
    words = ["metrics", "serve", str(tmp_path), "--port", "0"]
    with warm.start(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        url = re.search(r"http://\S+", process.stderr.readline())
        assert url is not None
        with urllib.request.urlopen(url[0], timeout=60) as answer:
            assert b"tenfold_run_running" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130


def test_it_writes_files_for_a_target(tmp_path: Path) -> None:
    words = ["metrics", "files", str(tmp_path / "new" / "folder"), "--target", "trainer:9999", "--json"]
    written = json.loads(warm.run(words, check=True).stdout)["files"]
    assert len(written) == 3 and '["trainer:9999"]' in Path(written[2]).read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["metrics", "{}"], "no such ledger"),
        (["metrics", "serve", "{}"], "no such ledger"),
        (["metrics", "serve", "{}", "--port", "70000"], "--port"),
        (["metrics", "files", "{}/file/below"], "cannot write there"),
        (["metrics", "files", "{}/f", "--target", "a: b"], "--target a: b: give HOST:PORT"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], line: str) -> None:
    (tmp_path / "file").write_text("")
    done = warm.run([word.format(tmp_path) for word in words])
    assert done.returncode == 2 and done.stdout == "" and line in done.stderr and len(done.stderr.splitlines()) == 1
