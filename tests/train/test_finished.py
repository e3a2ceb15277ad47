"""What is scored, reported and exported is what was trained, whatever happened to the directory in between."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.campaign import run_campaign, run_evaluate, run_export, run_report, run_train
from tenfold.config import Campaign
from tenfold.core import digests
from tenfold.core.errors import InputError, TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.ledger import Ledger
from tenfold.train.identity import identify
from tests import warm
from tests.campaign.small import copy_of, finished_campaign, new_campaign

OTHER_NUMERICS = {"ATEN_CPU_CAPABILITY": "default"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_campaign(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> Path:
    return copy_of(finished, tmp_path / "mine")


def digest_of(directory: Path) -> str:
    return str(json.loads((directory / "train.json").read_text())["weights_digest"])


def tenfold(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return warm.run(arguments, env=os.environ | environment)


def damage(checkpoint: Path) -> None:
    path = checkpoint / "rank-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_last_checkpoint_is_never_scored_as_if_it_were_the_last(mine: Path) -> None:
    digest = digest_of(mine)
    damage(mine / "checkpoints" / "step-00000040")
    (mine / "evaluation.json").unlink()
    with pytest.raises(InputError, match="the checkpoint of the last step, 40, is missing or damaged"):
        run_evaluate(mine, ())
    with pytest.raises(InputError, match="missing or damaged"):
        run_export(mine, None, ())
    result = run_train(mine, ())
    assert result is not None and result["weights_digest"] == digest
    assert run_evaluate(mine, ())["weights_digest"] == digest


def test_without_checkpoints_the_run_is_trained_again(mine: Path) -> None:
    digest = digest_of(mine)
    shutil.rmtree(mine / "checkpoints")
    (mine / "evaluation.json").unlink()
    assert run_campaign(mine, ())["weights_digest"] == digest


@pytest.mark.parametrize("override", ["model.base_depth=8", "model.depth=3", "train.tokens=20480", "seed=7"])
@pytest.mark.parametrize("verb", [run_evaluate, run_report])
def test_another_configuration_is_refused_by_its_key(verb: object, override: str, mine: Path) -> None:
    with pytest.raises(InputError, match=override.split("=")[0]):
        verb(mine, (override,))  # type: ignore[operator]


def test_other_code_or_numerics_do_not_make_a_finished_run_unfinished(mine: Path) -> None:
    digest = digest_of(mine)
    done = tenfold("run", str(mine), "--json", **OTHER_NUMERICS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_digest"] == digest


def test_a_run_resumed_on_other_numerics_keeps_its_curves(mine: Path) -> None:
    for name in ("train.json", "evaluation.json", "report.json"):
        (mine / name).unlink()
    shutil.rmtree(mine / "checkpoints" / "step-00000040")
    done = tenfold("run", str(mine), "--json", **OTHER_NUMERICS)
    assert done.returncode == 0, done.stderr
    assert "instruction_set" in done.stderr and "not bit for bit" in done.stderr
    report = json.loads((mine / "report.json").read_text())
    assert [step for step, _ in report["curves"]["train/loss"]] == list(range(1, 41))


def test_time_of_the_processes_before_counts(mine: Path) -> None:
    before = json.loads((mine / "report.json").read_text())["throughput"]["seconds"]
    (mine / "train.json").unlink()
    result = run_train(mine, ())
    assert result is not None and result["seconds"] > 0.5 * before


def test_reading_is_possible_while_somebody_trains(mine: Path) -> None:
    with CampaignFiles(mine).locked():
        run_report(mine, ())
        run_evaluate(mine, ())
        run_export(mine, None, ())
    assert (mine / "export" / "config.json").exists()


def test_a_relative_checkpoint_folder_lies_in_the_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = new_campaign(tmp_path / "campaign")
    monkeypatch.chdir(tmp_path)
    run_campaign(directory, ["checkpoint.url=elsewhere"])
    assert sorted(path.name for path in (directory / "elsewhere").glob("step-*")) == ["step-00000030", "step-00000040"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_data_build_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    directory = new_campaign(tmp_path / "campaign", texts=200)
    with warm.start(["run", str(directory)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith("data:")
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("interrupted; nothing that was finished is lost")
    assert not (directory / "data").exists()


def test_a_ledger_that_does_not_know_the_run_is_one_line(mine: Path) -> None:
    (mine / "ledger.sqlite").unlink()
    Ledger(mine / "ledger.sqlite").close()
    with pytest.raises(InputError, match="does not know this run"):
        run_report(mine, ())


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"steps": 40}'])
def test_broken_notes_of_a_stage_only_mean_that_it_is_done_again(content: str, mine: Path) -> None:
    digest = digest_of(mine)
    for name in ("train.json", "evaluation.json"):
        (mine / name).write_text(content)
    assert run_campaign(mine, ())["weights_digest"] == digest


def test_a_change_of_the_text_does_not_take_the_corpus_from_a_trained_run(mine: Path) -> None:
    digest = digest_of(mine)
    changed = sorted((mine / "texts").iterdir())[0]
    changed.write_text(changed.read_text() + "\n# one more line of text at the end of it\n")
    assert run_campaign(mine, ())["weights_digest"] == digest


def test_a_corpus_of_other_data_is_not_trained_on(mine: Path) -> None:
    (mine / "train.json").unlink()
    with pytest.raises(InputError, match=r"built from another \[data\] or seed"):
        run_train(mine, ("data.shard_tokens=2048",))


def test_a_note_left_half_written_beside_the_corpus_does_not_block_it(mine: Path) -> None:
    (mine / "data" / ".audit.json.tmp").write_text("{")
    (mine / "data" / ".DS_Store").write_text("")
    assert run_campaign(mine, ())["weights_digest"] == digest_of(mine)


def test_kept_out_text_cannot_be_struck_from_the_manifest(mine: Path) -> None:
    path = mine / "data" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["isolated"]
    path.write_text(json.dumps(manifest | {"isolated": []}))
    with pytest.raises(InputError, match="no passed audit"):
        run_evaluate(mine, ())


def test_a_failed_run_is_an_incident_in_the_ledger(tmp_path: Path) -> None:
    directory = new_campaign(tmp_path / "campaign")
    with pytest.raises(TenfoldError, match="not finite"):
        run_campaign(directory, ["train.optimizer.learning_rate=1e30", "train.optimizer.kind=adamw"])
    with closing(Ledger(directory / "ledger.sqlite", read_only=True)) as ledger:
        (run,) = ledger.runs()
        (incident,) = ledger.incidents(run.id)
    assert run.status == "failed"
    assert "samples 8–15" in incident.message


def test_digests_over_a_configuration_are_those_of_before_the_section_learners_had_its_name() -> None:
    # Folders of the ladder, forecasts and changes of earlier campaigns are found by such digests.
    data = {"sources": [{"kind": "python-stdlib"}]}
    learners = {"count": 2, "inner_steps": 4}
    campaign = Campaign.model_validate({"name": "x", "data": data, "model": {"depth": 2}, "learners": learners})
    identity = identify(campaign, "m", {})
    assert identity.recipe == "780f58bd96b57a09ca46807d20e0c5e3b30311a12345e77ea39c9babdcf23623"
    assert (
        digests.digest_of(identity.digested_config)
        == "1f791c39db4ccaf58aabdc53b749fc146de6b5ee7735e94e548e53abe46905e3"
    )
