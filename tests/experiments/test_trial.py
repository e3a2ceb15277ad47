"""How fast learners will train, tried out before they do."""

from pathlib import Path

import pytest

from tenfold.config import load_campaign
from tenfold.core.console import run_console
from tenfold.core.errors import TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.experiments.forecast import target_plan
from tenfold.experiments.trial import time_trial
from tests.learners.small import learners_campaign

KILL_AT_ONCE = """
[chaos]
faults = [{ kind = "kill", target = "learner-0", at_seconds = 0 }]
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learners_campaign(tmp_path_factory.mktemp("trial"), tokens=1_000_000, more=KILL_AT_ONCE)


def test_the_learners_are_timed_at_work_and_leave_nothing_behind(campaign: Path) -> None:
    before = sorted(campaign.iterdir())
    config, files = load_campaign(campaign), CampaignFiles(campaign)
    manifest = Manifest.load(files.data)
    with run_console(enabled=False) as console:
        trial = time_trial(config, files, manifest, target_plan(config, manifest), console)
    rate, other = trial.basis["tokens_per_second"], trial.basis["other_seconds"]
    assert 1_000_000 / rate + other < trial.seconds  # evaluations come on top
    assert other > 0.5  # processes were started
    low, high = trial.intervals["0.8"]
    assert low < trial.seconds < high
    assert sorted(campaign.iterdir()) == before


def test_learners_that_others_start_are_not_guessed_at(campaign: Path) -> None:
    config, files = load_campaign(campaign, ('learners.launch="none"',)), CampaignFiles(campaign)
    manifest = Manifest.load(files.data)
    with run_console(enabled=False) as console, pytest.raises(TenfoldError, match='launch = "local"'):
        time_trial(config, files, manifest, target_plan(config, manifest), console)
