"""The ladder of a campaign: which rungs belong to it, training them side by side, and the tables of their losses."""

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from tenfold.config import Campaign
from tenfold.core import Child, Children, InputError, Rate, RunConsole, TenfoldError, byte_size, write_json
from tenfold.data import Manifest, Workspace
from tenfold.experiments.design import Target, Trunk, design_ladder, target_of
from tenfold.experiments.tasks import (
    RungResult,
    TransferCheck,
    TrunkTask,
    check_transfer,
    ladder_tasks,
    refuse_divergence,
    transfer_tasks,
)
from tenfold.experiments.trunk import work_on
from tenfold.machine import usable_cores
from tenfold.scaling import Points, RunTable, ScalingLaw, fit_scaling_law, ladder_laws
from tenfold.train import Ranks, choose_device, plan_run

POLL_S = 0.2
FORWARD = 3  # passes that a training step takes the time of, of which scoring does the one forward
GRACE_S = 60.0  # a worker that was asked to stop saves first


@dataclass(frozen=True)
class LadderPlan:
    """The target, the trunks below it, and the tasks: those of the ladder and those of the check of transfer."""

    target: Target
    trunks: tuple[Trunk, ...]
    rungs: tuple[TrunkTask, ...]
    transfer: tuple[TrunkTask, ...]

    @property
    def tasks(self) -> tuple[TrunkTask, ...]:
        """Tasks of the ladder, then those of the check of transfer."""
        return self.rungs + self.transfer

    @property
    def is_done(self) -> bool:
        """Whether all of it has been trained."""
        return all(task.is_done for task in self.tasks)


@dataclass(frozen=True)
class LadderResult:
    """Finished rungs, in order of compute, and whether the best learning rate transfers (None: not checked)."""

    plan: LadderPlan
    rungs: tuple[RungResult, ...]
    transfer: TransferCheck | None

    @property
    def seconds(self) -> float:
        """Process time of all trunks and cool-downs."""
        trunks = {rung.trunk_fingerprint: rung.trunk_seconds for rung in self.rungs}
        return sum(trunks.values()) + sum(rung.seconds for rung in self.rungs)


def plan_ladder(workspace: Workspace) -> LadderPlan:
    """What belongs to the ladder. Raises InputError when there is none, or when the target is too small for one."""
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    if not campaign.ladder.sizes:
        raise InputError(f"{files.directory}: ladder.sizes = 0: no ladder is asked for; give 3 or more")
    plan = plan_run(campaign, manifest.vocab_size, Ranks(0, 1, choose_device(campaign.train.device)))
    target = target_of(campaign, manifest.vocab_size, plan.steps * plan.tokens_per_step)
    trunks = design_ladder(campaign, manifest.vocab_size, target)
    checked = transfer_tasks(files.ladder, trunks, campaign, manifest.digest) if campaign.ladder.transfer else []
    rungs = ladder_tasks(files.ladder, trunks, campaign, manifest.digest)
    return LadderPlan(target, trunks, tuple(rungs), tuple(checked))


def run_ladder(workspace: Workspace) -> LadderResult:
    """Train what is missing of the ladder, as many rungs at a time as the machine takes."""
    plan = plan_ladder(workspace)
    if not plan.is_done:
        _say_what_scoring_takes(workspace, plan)
    train_tasks(workspace, plan.tasks, "ladder")
    return ladder_result(plan)


def _say_what_scoring_takes(workspace: Workspace, plan: LadderPlan) -> None:
    """A line where the rungs take longer to score than to train: their holdouts are those of the target, whole."""
    campaign, holdouts = workspace.campaign, workspace.manifest.holdouts
    seen = sum(holdout.tokens for holdout in holdouts) * campaign.model.context / campaign.stride
    trunks = [task.trunk for task in plan.tasks]
    scoring = sum(len(trunk.rungs) * trunk.flops_per_token / FORWARD * seen for trunk in trunks)
    share = scoring / sum(trunk.flops for trunk in trunks)
    if share > 1:
        workspace.console.say(
            f"ladder: scoring its rungs takes about {share:.1f} times as long as training them: each is scored on all "
            f"{byte_size(sum(holdout.bytes for holdout in holdouts))} of the holdouts, since a law forecasts what it "
            "was fitted on; a lower `max_bytes` of the holdouts helps"
        )


def join_ladder(workspace: Workspace) -> LadderResult:
    """Work on the ladder in this process, beside whoever else does."""
    plan = plan_ladder(workspace)
    work_on(plan.tasks, workspace.files)
    return ladder_result(plan)


def ladder_result(plan: LadderPlan) -> LadderResult:
    """What came of a finished ladder. Raises InputError when one of its rungs met a loss that is not finite."""
    refuse_divergence(plan.rungs)
    rungs = sorted((result for task in plan.rungs for result in task.results), key=lambda rung: rung.compute)
    return LadderResult(plan, tuple(rungs), check_transfer(plan.trunks, plan.rungs, plan.transfer))


def finished_ladder(workspace: Workspace) -> LadderResult | None:
    """The ladder of this campaign, if it has been trained."""
    if not workspace.campaign.ladder.sizes:
        return None
    try:
        plan = plan_ladder(workspace)
        return ladder_result(plan) if plan.is_done else None
    except InputError:
        return None  # too small for a ladder, or its rungs diverged


def train_tasks(workspace: Workspace, tasks: Sequence[TrunkTask], name: str) -> None:
    """Train what is not finished yet, as many tasks at a time as fit. Raises TenfoldError when a rung fails."""
    unfinished = sorted((task for task in tasks if not task.is_done), key=lambda task: -task.trunk.flops)
    if not unfinished:
        return
    files, console = workspace.files, workspace.console
    files.ladder.mkdir(parents=True, exist_ok=True)
    plan = files.ladder / f"{name}-plan.json"
    tasks_left = [task.to_dict() for task in unfinished]
    write_json(plan, {"campaign": str(files.directory), "corpus": files.corpus, "tasks": tasks_left})
    count = min(worker_count(workspace.campaign), len(unfinished))
    console.say(
        f"{name}: {sum(len(task.trunk.rungs) for task in unfinished)} rungs on {len(unfinished)} trunks, "
        f"{count} at a time"
    )
    with _workers(plan, count) as workers:
        _follow(_Progress(unfinished, console, name), workers)
    plan.unlink()


def worker_count(campaign: Campaign) -> int:
    """Rungs trained at the same time on this machine."""
    if campaign.ladder.workers:
        return campaign.ladder.workers
    if choose_device(campaign.train.device).type == "cuda":
        return torch.cuda.device_count()
    return max(1, usable_cores() // campaign.ladder.threads)


@contextmanager
def _workers(plan: Path, count: int) -> Iterator[Children]:
    """Worker processes; whatever ends this block stops them, and they save what they have."""
    command = (sys.executable, "-m", "tenfold", "worker", str(plan))
    children = Children()
    try:
        for number in range(count):
            children.start(Child(f"worker {number}", command, _one_gpu(number)))
        yield children
    finally:
        children.stop_all(GRACE_S)


def _one_gpu(number: int) -> dict[str, str]:
    """Environment in which a worker sees one GPU, where there are any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}


def _follow(progress: "_Progress", workers: Children) -> None:
    """Wait until all have ended well."""
    while workers.running:
        _refuse_failure(workers, progress.name)
        progress.show()
        time.sleep(POLL_S)
    _refuse_failure(workers, progress.name)
    progress.show()
    if not progress.is_done:
        raise TenfoldError(f"{progress.name}: the workers ended before all rungs were done; run again to go on")


def _refuse_failure(workers: Children, name: str) -> None:
    for ended in workers.poll():
        if ended.code:
            raise TenfoldError(f"{name}: a worker ended with {ended.how}; its own line says why")


class _Progress:
    """A line for each finished rung, with the share of the work done and the time left."""

    def __init__(self, tasks: Sequence[TrunkTask], console: RunConsole, name: str) -> None:
        self.tasks, self.console, self.name = tasks, console, name
        self._rate = Rate(self._done)  # first: others may finish rungs meanwhile
        self._seen = {result.fingerprint for task in tasks for result in task.results}
        self._all = sum(task.trunk.flops for task in tasks)

    @property
    def is_done(self) -> bool:
        """Whether every rung is finished."""
        return all(task.is_done for task in self.tasks)

    @property
    def _done(self) -> float:
        return sum(task.flops_done for task in self.tasks)

    def show(self) -> None:
        """Say what has finished since the last time."""
        for task in self.tasks:
            for result in task.results:
                if result.fingerprint not in self._seen:
                    self._seen.add(result.fingerprint)
                    self.console.say(self._line(result))

    def _line(self, result: RungResult) -> str:
        done = self._done
        factor = "" if result.rate_factor == 1.0 else f" at {result.rate_factor:g}x the learning rate"
        scores = "  ".join(f"{name} {value:.3f}" for name, value in result.holdouts.items())
        return (
            f"{self.name}: {result.size}{factor}, {result.tokens:,} tokens: bits per byte {scores}  "
            f"({done / self._all:.0%}, {self._rate.rate(done):.2g} FLOP/s, {self._rate.eta(done, self._all)})"
        )


def nats_per_token(manifest: Manifest, holdout: str, bits_per_byte: float) -> float:
    """Loss on a holdout: its bits are spread over its tokens."""
    text = next(text for text in manifest.holdouts if text.name == holdout)
    return bits_per_byte * math.log(2) * text.bytes / text.tokens


def fit_ladder_law(table: RunTable, seed: int) -> ScalingLaw:
    """The law of a ladder, its coefficients held near usual ones."""
    return fit_scaling_law(table, seed=seed, laws=ladder_laws(table))


def run_table(rungs: Sequence[RungResult], losses: Sequence[float], source: str, corpus_tokens: int) -> RunTable:
    """Rungs with a loss each. Cool-downs of one trunk share its luck, so the bootstrap draws them together."""
    tokens = [float(rung.tokens) for rung in rungs]
    points = Points.of(
        [rung.parameters for rung in rungs],
        tokens,
        [rung.compute for rung in rungs],
        [min(seen, corpus_tokens) for seen in tokens],
    )
    return RunTable.of(points, losses, [rung.trunk_fingerprint for rung in rungs], source)
