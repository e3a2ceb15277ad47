"""How a run of several learners stands in the ledger when it ends, in whatever way."""

from contextlib import closing, suppress
from pathlib import Path

import pytest

from tenfold.campaign import run_data
from tenfold.config import load_campaign
from tenfold.core import CampaignFiles, Interrupted, TenfoldError
from tenfold.data import Manifest
from tenfold.learners.launch.processes import claim_learners, plan_with_learners
from tenfold.learners.launch.run import _recorded
from tenfold.ledger import Ledger, RunKilled
from tenfold.train import start_run
from tests.learners.small import learners_campaign


@pytest.mark.parametrize(
    ("error", "status", "incidents"),
    [
        (None, "done", []),
        (Interrupted("stopped as asked"), "interrupted", []),
        (TenfoldError("no learner is left"), "failed", [("failed", "no learner is left")]),
        (KeyError("a bug"), "failed", [("failed", "KeyError: 'a bug'")]),
    ],
)
def test_a_run_is_closed_as_it_ended_and_a_failure_is_an_incident(
    error: Exception | None, status: str, incidents: list[tuple[str, str]], tmp_path: Path
) -> None:
    directory = learners_campaign(tmp_path)
    run_data(directory, ())
    campaign, files = load_campaign(directory, ()), CampaignFiles(directory)
    plan, identity = plan_with_learners(campaign, Manifest.load(files.data))
    files.learners.mkdir(parents=True, exist_ok=True)
    claim = claim_learners(files, identity, print)
    with suppress(TenfoldError, KeyError), _recorded(campaign, files, claim, plan.steps):
        if error:
            raise error
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        assert [run.status for run in ledger.runs()] == [status]
        assert [(incident.kind, incident.message) for incident in ledger.incidents()] == incidents


def test_a_run_whose_process_was_killed_is_closed_with_an_incident_when_it_is_begun_again(tmp_path: Path) -> None:
    directory = learners_campaign(tmp_path)
    campaign, files = load_campaign(directory, ()), CampaignFiles(directory)
    plan, identity = plan_with_learners(campaign, Manifest.load(files.data))
    files.learners.mkdir(parents=True, exist_ok=True)
    with closing(Ledger(files.ledger)) as ledger:
        start_run(ledger, campaign, identity)
    with _recorded(campaign, files, claim_learners(files, identity, print), plan.steps):
        pass
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        assert [run.status for run in ledger.runs()] == ["done"]
        assert [type(incident.payload) for incident in ledger.incidents()] == [RunKilled]
