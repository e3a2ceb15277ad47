"""A campaign of several learners small enough for a test, and ways to look at it while it goes on."""

import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from tenfold.core.errors import InputError
from tenfold.learners.record.log import RunLog
from tenfold.ledger import Ledger
from tests.campaign.small import built_campaign
from tests.waiting import PATIENCE_S

LEARNERS = """
[learners]
count = 2
inner_steps = 4
fragments = 3
stalled_after = 3.0
outer_momentum = 0.5
"""


def learners_campaign(directory: Path, tokens: int = 10240, more: str = "") -> Path:
    """A campaign of two learners, its corpus built, nothing trained."""
    toml = (built_campaign(directory) / "campaign.toml").read_text()
    toml = toml.replace("tokens = 10240", f"tokens = {tokens}")
    (directory / "campaign.toml").write_text(toml + LEARNERS + more)
    return directory


def start_training(campaign: Path, *words: str) -> subprocess.Popen[str]:
    """`tenfold train` in a process of its own."""
    command = [sys.executable, "-m", "tenfold", "train", str(campaign), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(campaign: Path, *words: str) -> dict[str, Any]:
    """Train to the end; what was printed under --json. Fails the test with what was said when it does not succeed."""
    process = start_training(campaign, "--json", *words)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result | {"said": err}


def committed_samples(campaign: Path) -> list[int]:
    """Every sample that counts, as often as it does, in order."""
    with RunLog.opened(campaign / "learners") as log:
        return sorted(sample for _, first, _, done in log.committed() for sample in range(first, first + done))


def total_samples(campaign: Path) -> int:
    """Samples of the whole run."""
    with RunLog.opened(campaign / "learners") as log:
        return log.total_samples()


def merges(campaign: Path) -> int:
    """Versions merged so far, of all fragments."""
    try:
        with RunLog.opened(campaign / "learners") as log:
            return len(log.participation())
    except (InputError, sqlite3.Error):  # not there yet
        return 0


def lives(campaign: Path) -> list[str]:
    """Names of the learners' lives, sorted."""
    with RunLog.opened(campaign / "learners") as log:
        return sorted(life.name for life in log.incarnations())


def kill_everything(process: subprocess.Popen[str]) -> None:
    """The supervisor and all it started, at once."""
    every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in every:
        each.kill()
    process.communicate()


def events(campaign: Path) -> Counter[str]:
    """Kinds of events in the ledger, and how often."""
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return Counter(event.kind for event in ledger.events())
