"""Whose the learners' folder is: a run goes on with its own state, also with that of the version before."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from tenfold.config import Campaign
from tenfold.core.errors import InputError, TenfoldError
from tenfold.core.files import write_json
from tenfold.core.folder import CampaignFiles
from tenfold.learners.launch.local_run import LocalRun
from tenfold.learners.launch.processes import address_file, claim_learners, read_address
from tenfold.train.identity import RunIdentity, identify


def identity(**learners: object) -> RunIdentity:
    sources = [{"kind": "files", "paths": ["texts"]}]
    values = {"data": {"sources": sources}, "learners": {"count": 4, "inner_steps": 6} | learners}
    return identify(Campaign.model_validate(values), "corpus", {"threads": 1})


def saved_before(directory: Path) -> CampaignFiles:
    """A campaign folder whose state of learners was written when the section was called [cluster]."""
    (directory / "cluster").mkdir()
    files, of_run = CampaignFiles(directory), asdict(identity())
    learners = of_run["config"].pop("learners")
    learners["learners"] = learners.pop("count")
    of_run["config"]["cluster"] = learners
    write_json(files.learners_identity, {"identity": of_run, "fingerprint": "before", "seconds": 12.5})
    return files


def test_a_folder_of_before_goes_on_under_its_name(tmp_path: Path) -> None:
    files, warnings = saved_before(tmp_path), list[str]()
    assert files.learners == tmp_path / "cluster"
    claim = claim_learners(files, identity(), warnings.append)
    assert (claim.earlier, warnings) == ("before", [])
    assert claim.seconds >= 12.5
    claim.save()
    again = claim_learners(files, identity(), warnings.append)
    assert (again.earlier, warnings) == (None, [])
    assert again.seconds >= 12.5


def test_learners_may_be_more_but_not_train_otherwise(tmp_path: Path) -> None:
    files = saved_before(tmp_path)
    assert claim_learners(files, identity(count=5, batch_tokens=128), pytest.fail).earlier == "before"
    with pytest.raises(InputError, match=r"cluster: trained with another configuration \(learners.inner_steps: 6 → 7"):
        claim_learners(files, identity(inner_steps=7), pytest.fail)


def test_a_new_folder_is_called_learners_and_is_anybodys(tmp_path: Path) -> None:
    files = CampaignFiles(tmp_path)
    assert files.learners == tmp_path / "learners"
    claim = claim_learners(files, identity(), pytest.fail)
    assert claim.earlier is None


@pytest.mark.parametrize("content", ["", "{", "[1]", "3"])
def test_what_is_no_address_is_none(tmp_path: Path, content: str) -> None:
    path = address_file(tmp_path, shard=2)
    assert path.name == "syncer-2.json" and read_address(path) is None
    path.write_text(content)
    assert read_address(path) is None
    write_json(path, {"pid": os.getpid()})
    assert read_address(path) == {"pid": os.getpid()}


def test_a_full_disk_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor keeps its time at every console line; syncer and learners go on without that."""
    (tmp_path / "learners").mkdir()
    claim, said = claim_learners(CampaignFiles(tmp_path), identity(), print), list[str]()
    is_full = True

    def refuse(path: Path, value: object) -> None:
        if is_full:
            raise TenfoldError(f"{path}: cannot be written (No space left on device); make room, then run again")

    monkeypatch.setattr("tenfold.learners.launch.processes.write_json", refuse)
    for _ in range(3):
        claim.save_if_possible(said.append)
    assert len(said) == 1, "said once"
    assert "No space left on device" in said[0]
    is_full = False
    claim.save_if_possible(said.append)
    is_full = True
    claim.save_if_possible(said.append)
    assert len(said) == 2, "and again when it happens anew"


def test_a_password_given_by_set_stands_on_no_command_line_of_a_child(tmp_path: Path) -> None:
    given = ("checkpoint.url=s3://me:open-sesame@bucket/run", "train.tokens=512")
    run = LocalRun(Campaign(), tmp_path, given, token="", sequences=1, steps=1, tokens_per_sample=1)
    assert run.sets == ["--set", "train.tokens=512"]
