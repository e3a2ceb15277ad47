"""A campaign of several learners small enough for a test, and ways to look at it while it goes on."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from tenfold.core.errors import InputError
from tenfold.learners.record.log import RunLog
from tenfold.ledger import Ledger
from tests.campaign.small import built_campaign
from tests.learners.process import LoggedProcess

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


def start_training(campaign: Path, *words: str) -> LoggedProcess:
    """`tenfold train` in a process of its own."""
    return LoggedProcess(["train", str(campaign), *words])


def train(campaign: Path, *words: str) -> dict[str, Any]:
    """Train to the end; what was printed under --json. Fails the test with what was said when it does not succeed."""
    with closing(start_training(campaign, "--json", *words)) as process:
        assert process.wait() == 0, process.said
        said = process.said
    (line,) = (line for line in said.splitlines() if line.startswith("{"))
    result: dict[str, Any] = json.loads(line)
    return result | {"said": said}


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


def kill_everything(process: LoggedProcess) -> None:
    """The supervisor and all it started, at once."""
    if process.poll() is None:
        every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for each in every:
            each.kill()
    process.close()


def events(campaign: Path) -> Counter[str]:
    """Kinds of events in the ledger, and how often."""
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return Counter(event.kind for event in ledger.events())
