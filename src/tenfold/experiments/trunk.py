"""Training of tasks: a trunk at constant learning rate, then a cool-down from its checkpoint for every rung.

A worker takes tasks nobody works on until none is left. A lock on a file in the task's folder claims the task, which
the kernel drops when the process ends in whatever way, so any number of workers of a machine can work on one ladder.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tenfold.config import Campaign
from tenfold.core import (
    CampaignFiles,
    NotFinite,
    TenfoldError,
    exclusive_if_free,
    run_console,
    watch_parent,
    write_json,
)
from tenfold.data import Manifest
from tenfold.evaluate import HoldoutScorer, HoldoutScores, full_scorer
from tenfold.experiments.design import Rung, rung_campaign, trunk_campaign
from tenfold.experiments.tasks import RungResult, TrunkTask, rung_name
from tenfold.ledger import holdout_metric
from tenfold.train import (
    Checkpointer,
    ConsoleWarnings,
    Learner,
    Loop,
    Observer,
    Part,
    Ranks,
    Throughput,
    TrainResult,
    build_learner,
    choose_device,
    journal_of,
)

POLL_S = 0.5


@dataclass(frozen=True)
class _Bench:
    """What every run of a task needs."""

    task: TrunkTask
    files: CampaignFiles
    manifest: Manifest

    def learner(self, campaign: Campaign) -> Learner:
        ranks = Ranks(0, 1, choose_device(campaign.train.device))
        return build_learner(campaign, self.files.data, self.manifest, ranks)

    def train(
        self, learner: Learner, checkpointer: Checkpointer, part: Part, scorer: HoldoutScorer | None
    ) -> tuple[TrainResult, dict[str, float]]:
        """Train, or go on; the result and the last scores of the holdouts, which the ledger keeps.

        Without a scorer there are none: a trunk is not judged, since only annealed models compare.
        """
        with run_console() as console, journal_of(learner, self.files, kind="rung") as journal:
            throughput = Throughput(learner, journal, brief=True)
            observers: list[Observer] = [throughput, journal, ConsoleWarnings(console)]
            if scorer:
                observers.append(HoldoutScores(learner, scorer, journal, throughput))
            result = Loop(learner, checkpointer, observers, part).run()
            names = [holdout_metric(holdout.name) for holdout in self.manifest.holdouts]
            scores = {name: journal.recorded(name, result.steps) for name in names}
        found = {name.split("/")[1]: values[-1][1] for name, values in scores.items() if values}
        if scorer and not found:  # the ledger was deleted in between
            found = dict(scorer(learner.model, learner.ranks.device))
        return result, found


def train_task(task: TrunkTask, files: CampaignFiles, manifest: Manifest) -> None:
    """What is finished is left alone. The trunk's checkpoints go when all rungs are done.

    A loss that is not finite is a result too, and recorded.
    """
    try:
        _train_all(task, files, manifest)
    except NotFinite as error:
        what = str(error).partition(". ")[0]  # the rest names samples and checkpoints to go on from
        write_json(task.divergence_file, {"why": f"{task.trunk.name}, seed {task.campaign.seed}: {what}"})
        for rest in [task.folder / "trunk", *(task.folder / rung_name(rung) for rung in task.trunk.rungs)]:
            shutil.rmtree(rest, ignore_errors=True)


def _train_all(task: TrunkTask, files: CampaignFiles, manifest: Manifest) -> None:
    bench, folder = _Bench(task, files, manifest), task.folder / "trunk"
    left = [rung for rung in task.trunk.rungs if task.result(rung) is None]
    branches = {rung.constant_steps for rung in left}
    with Checkpointer(folder, keep_last=1, keep_steps=branches) as checkpointer:
        trunk = _train_trunk(bench, checkpointer, branches)
        for rung in left:
            _train_rung(bench, rung, checkpointer, trunk)
    shutil.rmtree(folder)


def _train_trunk(bench: _Bench, checkpointer: Checkpointer, branches: set[int]) -> TrainResult:
    """Train it to its end, with a checkpoint wherever a rung branches off; from the start where one is missing."""
    saved = checkpointer.latest().checkpoint
    if saved and any(step <= saved.step and checkpointer.at(step) is None for step in branches):
        checkpointer.clear()
    learner = bench.learner(trunk_campaign(bench.task.campaign, bench.task.trunk))
    return bench.train(learner, checkpointer, Part(save_at=frozenset(branches)), None)[0]


def _train_rung(bench: _Bench, rung: Rung, trunk_checkpoints: Checkpointer, trunk: TrainResult) -> None:
    task, start = bench.task, trunk_checkpoints.at(rung.constant_steps)
    if start is None:
        raise TenfoldError(f"{task.folder}: the trunk's checkpoint at step {rung.constant_steps} is gone or damaged")
    campaign = rung_campaign(task.campaign, task.trunk, rung)
    learner = bench.learner(campaign)
    trunk_checkpoints.load(start, learner.state_tensors())
    folder = task.folder / rung_name(rung)
    with Checkpointer(folder, keep_last=1) as checkpointer:
        part = Part(first_step=rung.constant_steps)
        scorer = full_scorer(campaign, bench.files, bench.manifest)
        result, holdouts = bench.train(learner, checkpointer, part, scorer)
    record = RungResult(
        size=task.trunk.name,
        seed=task.campaign.seed,
        rate_factor=task.rate_factor,
        parameters=task.trunk.parameters,
        tokens=result.tokens,
        compute=task.trunk.flops_per_token * result.tokens,
        budget=rung.budget,
        steps=rung.steps,
        batch_tokens=task.trunk.batch_tokens,
        learning_rate=campaign.train.optimizer.learning_rate,
        holdouts=holdouts,
        fingerprint=result.fingerprint,
        trunk_fingerprint=trunk.fingerprint,
        weights_digest=result.weights_digest,
        seconds=result.seconds,
        trunk_seconds=trunk.seconds,
    )
    write_json(task.result_file(rung), asdict(record))
    shutil.rmtree(folder)


def work_on(tasks: Sequence[TrunkTask], files: CampaignFiles) -> None:
    """Train every task that no other worker trains, then wait for those that others do."""
    manifest = Manifest.load(files.data)
    while unfinished := [task for task in tasks if not task.is_done]:
        trained = [_train_if_free(task, files, manifest) for task in unfinished]
        if not any(trained):
            time.sleep(POLL_S)


def _train_if_free(task: TrunkTask, files: CampaignFiles, manifest: Manifest) -> bool:
    task.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_if_free(task.folder / ".lock") as claimed:
        if claimed and not task.is_done:
            train_task(task, files, manifest)
        return claimed


def work_for_parent(plan: Path) -> None:
    """Body of a worker process: the tasks are in `plan`; stops as on SIGTERM when the parent is gone."""
    watch_parent()
    record = json.loads(plan.read_text(encoding="utf-8"))
    tasks = [TrunkTask.from_dict(task) for task in record["tasks"]]
    work_on(tasks, CampaignFiles(Path(record["campaign"]), record["corpus"]))
