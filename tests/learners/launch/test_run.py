"""Several learners and a syncer, as real processes: they train, die, come back, and nothing is lost or done twice."""

import json
import os
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tenfold.campaign import run_evaluate, run_replay
from tenfold.core.errors import InputError
from tenfold.learners.record.log import RunLog
from tenfold.ledger import Ledger
from tests.learners.small import (
    committed_samples,
    events,
    kill_everything,
    learners_campaign,
    start_training,
    total_samples,
    train,
)
from tests.waiting import until


def has_merged(campaign: Path, times: int) -> bool:
    """Whether so many versions are published."""
    try:
        with RunLog.opened(campaign / "learners") as log:
            return len(log.participation()) >= times
    except (InputError, sqlite3.Error):  # not there yet
        return False


def refused(campaign: Path, *words: str) -> str:
    """What `tenfold train` says that refuses to."""
    with closing(start_training(campaign, *words)) as process:
        assert process.wait() == 2, process.said
        return process.said.strip()


def scores(campaign: Path) -> dict[int, float]:
    """Bits per byte on the holdout by step, of the first attempt of a run."""
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return dict(ledger.metric(ledger.runs()[0].id, "holdout/iid/bits_per_byte"))


KILLS = """
[chaos]
faults = [{ kind = "kill", target = "learner-1", at = 0.4 }]
"""


def test_a_run_of_two_learners_is_a_trained_campaign_and_replays_to_the_same_bits(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path)
    result = train(campaign)
    assert result["steps"] == 40
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    with RunLog.opened(campaign / "learners") as log:
        assert {life.name for life in log.incarnations()} == {"learner-0", "learner-1"}
        assert all(life.state == "finished" for life in log.incarnations())
        assert all(log.newest_version(fragment) > 1 for fragment in range(3))
    replayed = run_replay(campaign, ())
    assert replayed["same"]
    assert replayed["weights_digest"] == result["weights_digest"]
    assert run_evaluate(campaign, ())["iid_bits_per_byte"] < 8
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        (run,) = ledger.runs()
        losses = [loss for _, loss in ledger.metric(run.id, "train/loss")]
        links = {name: ledger.metric(run.id, name) for name in ledger.metric_names(run.id) if name.startswith("link/")}
    assert run.status == "done"
    assert 0 < scores(campaign)[40] < 8
    figures = ("up_bytes_per_second", "down_bytes_per_second", "round_trip_seconds")
    assert links.keys() == {f"link/learner-{number}/{figure}" for number in range(2) for figure in figures}
    assert all(
        0 < value < (60 if name.endswith("round_trip_seconds") else 1e12) for name in links for _, value in links[name]
    )
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_learner_killed_in_the_middle_loses_nothing_and_the_run_replays(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=64_000, more=KILLS)
    result = train(campaign)
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    seen = events(campaign)
    assert seen["chaos"] == 1, result["said"]
    assert seen["died"] == 1
    replayed = run_replay(campaign, ())
    assert replayed["weights_digest"] == result["weights_digest"]
    assert replayed["incarnations"] == 3
    assert len(scores(campaign)) >= 2, "while it trains, too"
    assert all(0 < score < 8 for score in scores(campaign).values())


@pytest.mark.slow
def test_the_whole_machine_lost_goes_on_where_it_was(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=40_960)
    process = start_training(campaign)
    until(lambda: has_merged(campaign, 6))
    kill_everything(process)
    with RunLog.opened(campaign / "learners") as log:
        merged_before = len(log.participation())
    result = train(campaign)
    with RunLog.opened(campaign / "learners") as log:
        assert len(log.participation()) > merged_before
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    assert run_replay(campaign, ())["weights_digest"] == result["weights_digest"]


@pytest.mark.slow
def test_a_disk_that_hangs_while_a_checkpoint_is_written_costs_no_step(tmp_path: Path) -> None:
    """The file of a save is a pipe that nobody reads, until the run is finished."""
    campaign = learners_campaign(tmp_path, tokens=20480)
    process = start_training(campaign, "--set", "checkpoint.every=4")
    folders = [campaign / "learners" / "learners" / f"learner-{number}" for number in range(2)]
    until(lambda: all(any(folder.glob("step-*")) for folder in folders))
    pipes = [folder / f".tmp-step-{n:08d}" / "rank-00000.part.json" for folder in folders for n in range(200)]
    for pipe in pipes:
        pipe.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            os.mkfifo(pipe)
    until(lambda: events(campaign)["finished"] == 1)
    readers = [os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in pipes if pipe.is_fifo()]
    status = process.wait()
    for reader in readers:
        os.close(reader)
    assert status == 0, process.said
    logs = [(campaign / "learners" / "logs" / f"learner-{number}.log").read_text() for number in range(2)]
    assert all("the one before is still being written" in log for log in logs)
    assert events(campaign)["stalled"] == 0
    assert committed_samples(campaign) == list(range(total_samples(campaign)))


def test_a_folder_where_another_run_was_trained_is_refused_before_anything_is(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path)
    train(campaign, "--set", "learners.count=0")
    refusal = refused(campaign)
    assert "step-00000040: trained with another configuration (learners.count: 0 → 2)" in refusal
    assert not (campaign / "learners" / "identity.json").exists()


@pytest.mark.slow
def test_the_last_checkpoint_is_made_again_from_the_merge_log(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path)
    result = train(campaign)
    (campaign / "train.json").unlink()  # as a kill between the checkpoint and its record leaves it
    assert train(campaign)["weights_digest"] == result["weights_digest"]
    with (campaign / "checkpoints" / "step-00000040" / "rank-00000.safetensors").open("ab") as handle:
        handle.write(b"x")
    assert train(campaign)["weights_digest"] == result["weights_digest"]
    assert sorted(path.name for path in (campaign / "checkpoints").glob("[!.]*")) == [
        "damaged-step-00000040",
        "step-00000040",
    ]
    assert events(campaign)["damaged-checkpoint"] == 1


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path)
    refusal = refused(campaign, "--set", "learners.count=3")
    assert refusal.endswith("cannot be shared equally; set learners.batch_tokens")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_fewer_learners_but_not_with_another_recipe(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=40_960)
    process = start_training(campaign)
    until(lambda: has_merged(campaign, 6))
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, process.said
    assert "stopped as asked; step " in process.said
    seconds = json.loads((campaign / "learners" / "identity.json").read_text())["seconds"]
    for key, was, now in (("inner_steps", 4, 5), ("syncer_shards", 1, 2)):
        refusal = refused(campaign, "--set", f"learners.{key}={now}")
        assert f"learners: trained with another configuration (learners.{key}: {was} → {now})" in refusal
    result = train(campaign, "--set", "learners.count=1", "--set", "learners.batch_tokens=128")
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    assert result["seconds"] > seconds > 1
    with RunLog.opened(campaign / "learners") as log:
        assert {life.name for life in log.incarnations() if life.state == "finished"} == {"learner-0"}
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        steps = [step for step, _ in ledger.metric(ledger.runs()[-1].id, "train/loss")]
        assert [run.status for run in ledger.runs()] == ["interrupted", "done"]
    assert steps[0] == 1
