"""The ladder: each rung is a run of its own, bit for bit, whatever happens to the processes that train it."""

import json
import logging
import math
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenfold.campaign import run_ladder
from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.core.files import write_json
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.evaluate.holdouts import full_scorer
from tenfold.experiments.design import Trunk, design_ladder, rung_campaign, target_of, trunk_campaign
from tenfold.experiments.ladder import _say_what_scoring_takes, plan_ladder
from tenfold.experiments.tasks import (
    RATE_FACTORS,
    RungResult,
    TransferCheck,
    TrunkTask,
    best_factor,
    check_transfer,
    ladder_tasks,
    middle_rung,
    transfer_tasks,
)
from tenfold.ledger import Ledger
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.journal import journal_of
from tenfold.train.learner import build_learner
from tenfold.train.loop import Loop, Part, TrainResult
from tenfold.train.ranks import Ranks, choose_device
from tests import warm
from tests.campaign.small import copy_of, new_ladder_campaign
from tests.experiments.small import workspace_at
from tests.waiting import PATIENCE_S, until

NO_TRANSFER = "ladder.transfer=false"  # rungs alone: fewer to wait for

Results = dict[str, tuple[str, dict[str, float]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_ladder_campaign(tmp_path_factory.mktemp("ladder") / "prepared")


@pytest.fixture(scope="module")
def finished(prepared: Path) -> Path:
    """Trained in this process, one rung after the other."""
    directory = copy_of(prepared, prepared.with_name("finished"))
    run_ladder(directory, (), join=True)
    return directory


def result_files(directory: Path) -> list[Path]:
    return sorted((directory / "ladder").glob("*/rung-*.json"))


def results_of(directory: Path) -> Results:
    """Digest of the weights and scores of every finished rung, by its file."""
    records = {path: json.loads(path.read_text()) for path in result_files(directory)}
    return {
        str(path.relative_to(directory)): (record["weights_digest"], record["holdouts"])
        for path, record in records.items()
    }


def written_at(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in result_files(directory)}


def tasks_of(directory: Path) -> tuple[TrunkTask, ...]:
    return plan_ladder(workspace_at(directory)).tasks


def without_other_rates(results: Results, tasks: Sequence[TrunkTask]) -> Results:
    folders = {task.folder.name for task in tasks if task.rate_factor == 1.0}
    return {name: result for name, result in results.items() if name.split("/")[1] in folders}


def trained_alone(
    directory: Path, campaign: Campaign, checkpoints: Path, part: Part
) -> tuple[TrainResult, dict[str, float]]:
    """A run from its start, and what its final weights score on the holdouts."""
    files = CampaignFiles(directory)
    manifest = Manifest.load(files.data)
    learner = build_learner(campaign, files.data, manifest, Ranks(0, 1, choose_device("cpu")))
    elsewhere = CampaignFiles(checkpoints.parent)
    with (
        Checkpointer(checkpoints, keep_last=9) as checkpointer,
        journal_of(learner, elsewhere) as journal,
    ):
        result = Loop(learner, checkpointer, [journal], part).run()
    return result, dict(full_scorer(campaign, files, manifest)(learner.model, learner.ranks.device))


def test_the_table_holds_every_rung_in_order_of_compute(finished: Path) -> None:
    answer = run_ladder(finished, ())
    table, tasks = answer["table"], tasks_of(finished)
    assert answer["rungs"] == len(table) == 6 and answer["seconds"] > 0
    computes = [row["compute"] for row in table]
    assert computes == sorted(computes)
    assert len({row["size"] for row in table}) == 3
    assert all(0 < row["holdouts"]["iid"] < 8 for row in table)
    assert len({row["weights_digest"] for row in table}) == 6
    assert sum(len(task.results) for task in tasks if task.rate_factor != 1.0) == 6
    assert len(result_files(finished)) == 12


def test_longer_rungs_and_their_trunks_learn(finished: Path) -> None:
    for task in tasks_of(finished):
        scores = [result.holdouts["iid"] for result in task.results]
        assert scores == sorted(scores, reverse=True)


def test_nothing_but_results_is_left_when_all_is_done(finished: Path) -> None:
    left = {path.name for path in (finished / "ladder").glob("*/*") if path.suffix != ".json"}
    assert left == {".lock"}


def test_training_again_does_nothing_and_says_the_same(finished: Path) -> None:
    before, answer = written_at(finished), run_ladder(finished, ())
    assert run_ladder(finished, (), join=True) == answer
    assert written_at(finished) == before


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_rung_is_bit_for_bit_the_run_without_a_trunk(size: int, finished: Path, tmp_path: Path) -> None:
    """What the cool-downs share is shared for speed alone."""
    task = tasks_of(finished)[size]
    rung = task.trunk.rungs[0]
    campaign = rung_campaign(task.campaign, task.trunk, rung)
    alone, scores = trained_alone(finished, campaign, tmp_path / "checkpoints", Part())
    recorded = task.result(rung)
    assert recorded is not None
    assert (alone.steps, alone.tokens) == (recorded.steps, recorded.tokens)
    assert alone.fingerprint == recorded.fingerprint
    assert alone.weights_digest == recorded.weights_digest
    assert scores == recorded.holdouts


def test_what_a_result_depends_on_gives_it_another_place(prepared: Path) -> None:
    """Else a changed campaign would be shown the old results."""
    ladder = {task.folder for task in tasks_of(prepared)}
    for changed in ("seed=2", "train.schedule.final=0.1", "train.optimizer.weight_decay=0.2", "evaluate.stride=8"):
        other = plan_ladder(workspace_at(prepared, [changed]))
        assert ladder.isdisjoint(task.folder for task in other.tasks), changed
    same = plan_ladder(workspace_at(prepared, ["train.log_every=3", "ladder.workers=2"]))
    assert {task.folder for task in same.tasks} == ladder


def test_a_task_is_the_same_after_its_way_to_a_worker(prepared: Path) -> None:
    for task in tasks_of(prepared):
        assert TrunkTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task


def test_a_damaged_result_is_trained_again(finished: Path, tmp_path: Path) -> None:
    directory = copy_of(finished, tmp_path / "copy")
    whole, (first, second, *rest) = results_of(directory), result_files(directory)
    first.write_bytes(first.read_bytes()[:40])
    second.write_text('{"size": "w16-d1"}')
    before = written_at(directory)
    run_ladder(directory, (), join=True)
    assert results_of(directory) == whole
    after = written_at(directory)
    assert after[first] > before[first] and after[second] > before[second]
    assert all(after[path] == before[path] for path in rest)


@pytest.mark.parametrize("damaged", ["first", "last"])
def test_a_damaged_checkpoint_of_a_trunk_is_trained_again(damaged: str, finished: Path, tmp_path: Path) -> None:
    directory = copy_of(finished, tmp_path / "copy")
    whole, task = results_of(directory), tasks_of(directory)[0]
    for path in task.folder.glob("rung-*.json"):
        path.unlink()
    branches = frozenset(rung.constant_steps for rung in task.trunk.rungs)
    part = Part(save_at=branches)
    trained_alone(directory, trunk_campaign(task.campaign, task.trunk), task.folder / "trunk", part)
    saved = [task.folder / "trunk" / f"step-{step:08d}" for step in sorted(branches)]
    assert len(saved) > 1 and all(path.is_dir() for path in saved)
    tensors = next(saved[0 if damaged == "first" else -1].glob("*.safetensors"))
    with tensors.open("r+b") as handle:
        handle.seek(tensors.stat().st_size // 2)
        handle.write(b"damage")
    run_ladder(directory, (), join=True)
    assert results_of(directory) == whole


def ladder_process(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    """`tenfold ladder --json` in a process group of its own, so that no worker outlives the test."""
    process: subprocess.Popen[str] = warm.start(
        ["ladder", str(directory), "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process


def end_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the parent and its workers at once, if any is left."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(process.pid)
        for one in [*parent.children(recursive=True), parent]:
            one.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_with_its_workers_it_goes_on_to_the_same_weights(finished: Path, prepared: Path, tmp_path: Path) -> None:
    directory = copy_of(prepared, tmp_path / "killed")
    process = ladder_process(directory)
    try:
        until(lambda: len(result_files(directory)) >= 2)
    finally:
        end_group(process)
    before = written_at(directory)
    assert 2 <= len(before) < len(result_files(finished))
    process = ladder_process(directory)
    try:
        answer, said = process.communicate(timeout=PATIENCE_S)
    finally:
        end_group(process)
    assert process.returncode == 0, said
    assert results_of(directory) == results_of(finished)
    after = written_at(directory)
    assert all(after[path] == before[path] for path in before)
    told = [(row["size"], row["weights_digest"]) for row in json.loads(answer)["table"]]
    assert told == [(row["size"], row["weights_digest"]) for row in run_ladder(finished, ())["table"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_stops_the_workers_too(
    number: signal.Signals, finished: Path, prepared: Path, tmp_path: Path
) -> None:
    directory = copy_of(prepared, tmp_path / "stopped")
    process = ladder_process(directory, "--set", NO_TRANSFER)
    try:
        until(lambda: len(result_files(directory)) >= 1)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        said = process.communicate(timeout=PATIENCE_S)[1]
        assert process.returncode == 130, said
        assert not any(worker.is_running() for worker in workers) and workers
    finally:
        end_group(process)
    assert "run the same command again to go on" in said.splitlines()[-1].lower() and "Traceback" not in said
    before = written_at(directory)
    run_ladder(directory, [NO_TRANSFER], join=True)
    assert results_of(directory) == without_other_rates(results_of(finished), tasks_of(finished))
    assert all(written_at(directory)[path] == before[path] for path in before)


@pytest.mark.slow
def test_workers_end_by_themselves_when_their_parent_is_killed(prepared: Path, tmp_path: Path) -> None:
    directory = copy_of(prepared, tmp_path / "orphans")
    process = ladder_process(directory, "--set", "ladder.workers=2")
    try:
        until(lambda: any((directory / "ladder").glob("*/trunk/*")))
        # Children of the workers, which they start for a moment to look at the machine, are not counted.
        workers = [child for child in psutil.Process(process.pid).children() if "worker" in child.cmdline()]
        assert len(workers) == 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
        assert not alive
    finally:
        end_group(process)
    assert len(result_files(directory)) < len(tasks_of(directory))


@pytest.mark.slow
def test_two_who_join_share_the_trunks(finished: Path, prepared: Path, tmp_path: Path) -> None:
    directory = copy_of(prepared, tmp_path / "joined")
    both = [ladder_process(directory, "--join") for _ in range(2)]
    try:
        answers = [process.communicate(timeout=PATIENCE_S) for process in both]
    finally:
        for process in both:
            end_group(process)
    assert [process.returncode for process in both] == [0, 0], answers
    one, two = (json.loads(answer) for answer, _ in answers)
    assert one == two
    assert results_of(directory) == results_of(finished)
    ledger = Ledger(directory / "ledger.sqlite", read_only=True)
    runs = [run for run in ledger.runs() if run.kind == "rung"]
    resumed = [event for event in ledger.events() if event.kind == "resumed"]
    ledger.close()
    tasks = tasks_of(directory)
    assert len(runs) == len(tasks) + sum(len(task.trunk.rungs) for task in tasks)
    assert {run.status for run in runs} == {"done"} and not resumed


@pytest.mark.parametrize(("size", "said"), [(1, False), (1_000, True)])
def test_it_is_said_where_scoring_takes_longer_than_training(
    size: int, said: bool, prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = workspace_at(prepared)
    plan, manifest = plan_ladder(workspace), workspace.manifest
    (holdout,) = manifest.holdouts
    larger = replace(manifest, holdouts=[replace(holdout, tokens=size * holdout.tokens, bytes=size * holdout.bytes)])
    with caplog.at_level(logging.INFO, "tenfold"):
        _say_what_scoring_takes(replace(workspace, known_manifest=larger), plan)
    assert ("scoring its rungs takes about" in caplog.text) == said


def test_no_ladder_and_too_few_sizes_are_refused_in_one_line(prepared: Path) -> None:
    for sizes, word in ((0, "no ladder is asked for"), (2, "give 3 or more, or 0 for no ladder")):
        with pytest.raises(InputError, match=word) as refusal:
            run_ladder(prepared, [f"ladder.sizes={sizes}"])
        assert refusal.value.exit_code == 2 and "\n" not in str(refusal.value)


@given(st.floats(-0.34, 0.34), st.floats(0.01, 10), st.floats(0.1, 5))
def test_a_parabola_is_found_where_it_is_lowest(optimum: float, bend: float, lowest: float) -> None:
    losses = [lowest + bend * (math.log(factor) - optimum) ** 2 for factor in RATE_FACTORS]
    assert math.log(best_factor(RATE_FACTORS, losses)) == pytest.approx(optimum, abs=1e-6)


@example(losses=[0.10000000000000002, 0.1, 0.1])
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=5))
def test_the_optimum_is_near_the_best_point(losses: list[float]) -> None:
    factors = [2.0**number for number in range(len(losses))]
    found, best = best_factor(factors, losses), losses.index(min(losses))
    if best in (0, len(losses) - 1):
        assert found == factors[best]
    else:
        assert factors[best] / math.sqrt(2) - 1e-9 <= found <= factors[best] * math.sqrt(2) + 1e-9


def made_check(root: Path, optima: Sequence[float], bend: float, factors: Sequence[float]) -> TransferCheck | None:
    """The verdict on results as if each size's loss were a parabola around its optimum, a factor."""
    campaign = Campaign.model_validate(
        {
            "name": "made",
            "data": {"sources": [{"kind": "files", "paths": ["texts"]}]},
            "model": {"width": 128, "depth": 4, "context": 64},
            "train": {"tokens": 8_000_000},
        }
    )
    trunks = design_ladder(campaign, 512, target_of(campaign, 512, 8_000_000))
    ladder, others = (make(root, trunks, campaign, "manifest") for make in (ladder_tasks, transfer_tasks))
    for trunk, optimum in zip(trunks, optima, strict=False):
        for task in (task for task in (*ladder, *others) if task.trunk.name == trunk.name):
            if task.rate_factor in factors:
                write_made_result(task, trunk, 2 + bend * math.log(task.rate_factor / optimum) ** 2)
    return check_transfer(trunks, ladder, others)


def write_made_result(task: TrunkTask, trunk: Trunk, loss: float) -> None:
    rung = middle_rung(trunk)
    shared: dict[str, Any] = {"steps": rung.steps, "budget": rung.budget, "batch_tokens": trunk.batch_tokens}
    result = RungResult(
        size=trunk.name,
        seed=0,
        rate_factor=task.rate_factor,
        parameters=trunk.parameters,
        tokens=rung.steps * trunk.batch_tokens,
        compute=rung.budget,
        learning_rate=task.campaign.train.optimizer.learning_rate,
        holdouts={"iid": loss},
        fingerprint=f"{trunk.name}-{task.rate_factor}",
        trunk_fingerprint=trunk.name,
        weights_digest="",
        seconds=1.0,
        trunk_seconds=1.0,
        **shared,
    )
    task.folder.mkdir(parents=True, exist_ok=True)
    write_json(task.result_file(rung), asdict(result))


@pytest.mark.parametrize(
    ("optima", "bend", "moved", "holds"),
    [
        ((1.0, 1.0), 0.1, 1.0, True),
        ((1.2, 0.9), 0.1, 0.75, True),
        ((2.0, 0.5), 0.1, 0.25, False),
        ((0.5, 2.0), 0.1, 4.0, False),
        ((0.4, 0.4), 0.1, 1.0, False),  # both beyond the rates tried: nothing is known
        ((2.0, 0.5), 0.001, 0.25, True),  # so flat that the rate does not matter
    ],
)
def test_the_verdict_follows_how_far_the_optimum_moved(
    optima: tuple[float, float], bend: float, moved: float, holds: bool, tmp_path: Path
) -> None:
    check = made_check(tmp_path, optima, bend, RATE_FACTORS)
    assert check is not None
    assert check.moved == pytest.approx(moved) and check.holds is holds
    assert ("it transfers" in check.text) is holds and all(sweep.size in check.text for sweep in check.sizes)


def test_without_all_rates_there_is_no_verdict(tmp_path: Path) -> None:
    assert made_check(tmp_path, (1.0, 1.0), 0.1, [0.5, 1.0]) is None
    assert made_check(tmp_path, (1.0,), 0.1, RATE_FACTORS) is None
