"""A campaign opened in its directory."""

from pathlib import Path

import pytest

from tenfold.core.errors import InputError, TenfoldError
from tenfold.data.workspace import open_workspace
from tenfold.ledger.events import SessionStarted
from tests.campaign.small import new_campaign, run_data


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = new_campaign(tmp_path_factory.mktemp("workspace"))
    run_data(directory, ())
    return directory


def test_the_corpus_is_checked_when_it_is_first_asked_for_and_not_again(campaign: Path) -> None:
    with open_workspace(campaign) as workspace:
        manifest = workspace.manifest
        (campaign / "data" / "audit.json").rename(campaign / "audit.aside")
        try:
            assert workspace.manifest is manifest
            with open_workspace(campaign) as other, pytest.raises(InputError, match="no passed audit"):
                _ = other.manifest
        finally:
            (campaign / "audit.aside").rename(campaign / "data" / "audit.json")


def test_a_corpus_of_other_settings_is_refused(campaign: Path) -> None:
    with open_workspace(campaign, ("seed=7",)) as workspace, pytest.raises(InputError, match="or seed than campaign"):
        _ = workspace.manifest


def test_another_configuration_has_the_same_corpus(campaign: Path) -> None:
    with open_workspace(campaign) as workspace:
        seeded = workspace.campaign.model_copy(update={"seed": 7})
        other = workspace.with_campaign(seeded)
        assert other.campaign.seed == 7
        assert other.manifest is workspace.manifest
        assert (other.files, other.console) == (workspace.files, workspace.console)


def test_overrides_are_applied_and_kept_for_other_processes(campaign: Path) -> None:
    with open_workspace(campaign, ["train.log_every=3"]) as workspace:
        assert workspace.campaign.train.log_every == 3
        assert workspace.overrides == ("train.log_every=3",)


def test_who_works_alone_keeps_others_out_and_readers_in(campaign: Path) -> None:
    with open_workspace(campaign, alone=True):
        with open_workspace(campaign) as reader:
            assert reader.campaign.name == "small"
        with pytest.raises(TenfoldError, match="is working here"), open_workspace(campaign, alone=True):
            pass


def test_a_quiet_workspace_prints_nothing(campaign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with open_workspace(campaign, quiet=quiet) as workspace:
            workspace.console.say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_the_ledger_is_closed_at_the_end(campaign: Path) -> None:
    with open_workspace(campaign) as workspace:
        with workspace.ledger() as ledger:
            ledger.event(SessionStarted(), "written")
        with workspace.ledger(read_only=True) as ledger:
            assert [event.message for event in ledger.events()][-1] == "written"
