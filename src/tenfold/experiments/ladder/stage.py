"""The ladder of a campaign: what belongs to it, training it, and the table of what came of it."""

from dataclasses import dataclass

from tenfold.config import Campaign
from tenfold.core.console import RunConsole
from tenfold.core.errors import InputError
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.experiments.design import Target, Trunk, design_ladder, target_of
from tenfold.experiments.ladder.tasks import RungResult, Task, ladder_tasks, refuse_divergence, transfer_tasks
from tenfold.experiments.ladder.transfer import TransferCheck, check_transfer
from tenfold.experiments.ladder.worker import work_on
from tenfold.experiments.ladder.workers import train_tasks
from tenfold.train.plan import plan_run
from tenfold.train.ranks import Ranks, choose_device


@dataclass(frozen=True)
class LadderPlan:
    """The target, the trunks below it, and the tasks: those of the ladder and those of the check of transfer."""

    target: Target
    trunks: tuple[Trunk, ...]
    rungs: tuple[Task, ...]
    transfer: tuple[Task, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All of them."""
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


def plan_ladder(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> LadderPlan:
    """What belongs to the ladder. Raises InputError when there is none, or when the target is too small for one."""
    if not campaign.ladder.sizes:
        raise InputError(f"{files.directory}: ladder.sizes = 0: no ladder is asked for; give 3 or more")
    plan = plan_run(campaign, manifest.vocab_size, Ranks(0, 1, choose_device(campaign.train.device)))
    target = target_of(campaign, manifest.vocab_size, plan.steps * plan.tokens_per_step)
    trunks = design_ladder(campaign, manifest.vocab_size, target)
    checked = transfer_tasks(files.ladder, trunks, campaign, manifest.digest) if campaign.ladder.transfer else []
    rungs = ladder_tasks(files.ladder, trunks, campaign, manifest.digest)
    return LadderPlan(target, trunks, tuple(rungs), tuple(checked))


def run_ladder(campaign: Campaign, files: CampaignFiles, manifest: Manifest, console: RunConsole) -> LadderResult:
    """Train what is missing of the ladder, as many rungs at a time as the machine takes."""
    plan = plan_ladder(campaign, files, manifest)
    train_tasks(plan.tasks, campaign, files, console, "ladder")
    return ladder_result(plan)


def join_ladder(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> LadderResult:
    """Work on the ladder in this process, beside whoever else does."""
    plan = plan_ladder(campaign, files, manifest)
    work_on(plan.tasks, files)
    return ladder_result(plan)


def ladder_result(plan: LadderPlan) -> LadderResult:
    """What came of a finished ladder. Raises InputError when one of its rungs met a loss that is not finite."""
    refuse_divergence(plan.rungs)
    rungs = sorted((result for task in plan.rungs for result in task.results), key=lambda rung: rung.compute)
    return LadderResult(plan, tuple(rungs), check_transfer(plan.trunks, plan.rungs, plan.transfer))


def finished_ladder(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> LadderResult | None:
    """The ladder of this campaign, if it has been trained."""
    if not campaign.ladder.sizes:
        return None
    try:
        plan = plan_ladder(campaign, files, manifest)
        return ladder_result(plan) if plan.is_done else None
    except InputError:
        return None  # too small for a ladder, or its rungs diverged
