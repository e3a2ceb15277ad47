"""How fast learners will train, tried out before they do."""

from pathlib import Path

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.experiments.forecast import target_plan
from tenfold.experiments.trial import time_trial
from tests.experiments.small import workspace_at
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
    workspace = workspace_at(campaign)
    trial = time_trial(workspace, target_plan(workspace.campaign, workspace.manifest))
    rate, other = trial.basis["tokens_per_second"], trial.basis["other_seconds"]
    assert 1_000_000 / rate + other < trial.seconds  # evaluations come on top
    assert other > 0.5  # processes were started
    low, high = trial.intervals["0.8"]
    assert low < trial.seconds < high
    assert sorted(campaign.iterdir()) == before


def test_learners_that_others_start_are_not_guessed_at(campaign: Path) -> None:
    workspace = workspace_at(campaign, ('learners.launch="none"',))
    with pytest.raises(TenfoldError, match='launch = "local"'):
        time_trial(workspace, target_plan(workspace.campaign, workspace.manifest))
