"""The text that Prometheus reads: values, labels, signs of life; promtool accepts it."""

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.ledger import METRICS, Ledger
from tenfold.monitor.export.prometheus import HEARTBEAT, OWN, labels_of, metrics_text, prometheus_name
from tests.monitor.ledgers import write_small_ledger

NEEDS_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool (Debian: prometheus)")


@pytest.fixture
def text(tmp_path: Path) -> str:
    with closing(Ledger(write_small_ledger(tmp_path), read_only=True)) as ledger:
        return metrics_text(ledger)


@pytest.mark.parametrize(
    "line",
    [
        'tenfold_train_loss{run="2",kind="train"} 2.5',
        'tenfold_train_loss{run="1",kind="rung"} 9.0',
        'tenfold_train_grad_norm{run="2",kind="train"} NaN',
        'tenfold_train_overhead_ratio{run="2",kind="train"} 0.01',
        'tenfold_block_grad_norm{run="2",kind="train",block="3"} 0.125',
        r'tenfold_block_update_ratio{run="2",kind="train",block="a\"b\\c"} 0.001',
        'tenfold_time_seconds{run="2",kind="train",part="data"} 0.25',
        'tenfold_device{run="2",kind="train",device="0",figure="temperature"} 70.0',
        'tenfold_observer{run="2",kind="train",observer="mine",figure="figure"} -1.0',
        'tenfold_run_running{run="2",kind="train"} 1.0',
        'tenfold_run_running{run="1",kind="rung"} 0.0',
        'tenfold_run_step{run="2",kind="train"} 3.0',
        'tenfold_incidents{kind="failed",severity="critical",state="open"} 1.0',
        'tenfold_incidents{kind="observer-failed",severity="warning",state="closed"} 1.0',
        'tenfold_incidents_open{severity="critical"} 1.0',
        'tenfold_incidents_open{severity="warning"} 0.0',
        "# HELP tenfold_disk_free_bytes free where the campaign lies (bytes)",
    ],
)
def test_it_says_what_the_ledger_has(text: str, line: str) -> None:
    assert line in text.splitlines()


def test_the_heartbeat_ages_while_nobody_writes(tmp_path: Path) -> None:
    path = write_small_ledger(tmp_path)
    for file in tmp_path.glob("ledger.sqlite*"):
        os.utime(file, (1000, 1000))
    with closing(Ledger(path, read_only=True)) as ledger:
        assert f"{HEARTBEAT} 500.0" in metrics_text(ledger, now=1500.0).splitlines()
    with closing(Ledger(path)) as ledger:
        ledger.log(2, {4: {"train/loss": 2.0}})
        (age,) = (line for line in metrics_text(ledger).splitlines() if line.startswith(f"{HEARTBEAT} "))
    assert float(age.split()[1]) < 1e6  # years, before that write


def test_a_run_that_is_over_and_not_the_newest_of_its_kind_is_history(tmp_path: Path) -> None:
    path = write_small_ledger(tmp_path)
    with closing(Ledger(path)) as ledger:
        ledger.finish_run(2)
        ledger.log(ledger.start_run("train", "b", {}), {1: {"train/loss": 1.0}})
        text = metrics_text(ledger)
    assert 'run="3"' in text and 'run="2"' not in text and 'run="1"' in text


def test_an_empty_ledger_has_a_text(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        text = metrics_text(ledger)
    assert HEARTBEAT in text and 'tenfold_incidents_open{severity="critical"} 0.0' in text


def test_every_metric_has_a_name_of_its_own() -> None:
    names = [prometheus_name(metric) for metric in METRICS]
    assert len(set(names)) == len(names) and not set(names) & set(OWN)


def test_labels_are_the_parts_in_braces() -> None:
    assert labels_of("observer/a/b") == {"observer": "a", "figure": "b"}
    assert labels_of("train/loss") == {}
    with pytest.raises(ValueError, match="no metric"):
        labels_of("nothing/known")


def test_the_newest_values_are_those_of_the_last_step_of_each_metric(tmp_path: Path) -> None:
    with closing(Ledger(write_small_ledger(tmp_path))) as ledger:
        newest = ledger.newest(2)
        assert set(newest) == set(ledger.metric_names(2)) and newest["train/loss"] == (3, 2.5)
        assert newest["train/grad_norm"][0] == 2
        assert {name: each[0] for name, each in newest.items()} == {
            name: ledger.metric(2, name)[-1][0] for name in ledger.metric_names(2)
        }
        assert ledger.newest(99) == {}


@NEEDS_PROMTOOL
def test_promtool_finds_nothing_wrong_but_the_unit_of_compression(text: str) -> None:
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    complaints = done.stderr.splitlines()
    assert [line for line in complaints if "bits_per_byte use base unit" not in line] == []
    assert done.returncode == (3 if complaints else 0)  # 3: it reads well, and something is not to its taste
