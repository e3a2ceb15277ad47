"""What to train for a change: every trunk of the ladder without and with it, for every seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from tenfold.config import Campaign, explain
from tenfold.core import CampaignFiles, InputError
from tenfold.data import Manifest, Workspace
from tenfold.experiments.design import (
    Target,
    Trunk,
    multiplying_parameters,
    rung_campaign,
    scaled_model,
    trunk_campaign,
)
from tenfold.experiments.ladder import plan_ladder, run_table
from tenfold.experiments.tasks import RungResult, TrunkTask
from tenfold.model import training_flops_per_token
from tenfold.scaling import Points, RunTable, check_identifiable

LEAST_SIZES = 3
OF_THE_LADDER = ("kind", "warmup", "decay")


@dataclass(frozen=True)
class Pair:
    """One trunk and seed, without and with the change; `seed` is the one without."""

    seed: int
    reference: TrunkTask
    changed: TrunkTask


@dataclass(frozen=True)
class DeriskPlan:
    """The target and all pairs."""

    target: Target
    pairs: tuple[Pair, ...]

    @property
    def tasks(self) -> tuple[TrunkTask, ...]:
        """Tasks without the change, then those with it."""
        return (*(pair.reference for pair in self.pairs), *(pair.changed for pair in self.pairs))


@dataclass(frozen=True)
class DeriskQuestion:
    """A campaign without and with a change, the seeds and sizes to compare; `where` names the change in messages."""

    campaign: Campaign
    changed: Campaign
    seeds: int
    sizes: tuple[str, ...] | None
    where: str


def plan_derisk(workspace: Workspace, question: DeriskQuestion) -> DeriskPlan:
    """What belongs to the comparison. Raises InputError for what cannot be compared, before anything is trained."""
    if question.seeds < 1:
        raise InputError(f"--seeds {question.seeds}: give 1 or more")
    files, manifest = workspace.files, workspace.manifest
    if not manifest.holdouts:
        raise InputError("derisk: the corpus has no holdout to compare losses on; add one to [[data.holdouts]]")
    check_schedule(question.campaign, question.changed, question.where)
    ladder = plan_ladder(workspace)
    trunks = chosen(ladder.trunks, question.sizes)
    _check_enough(trunks, question.seeds, manifest)
    pairs = [_pair(question, trunk, shift, files, manifest) for shift in range(question.seeds) for trunk in trunks]
    _check_apart(pairs, question)
    return DeriskPlan(ladder.target, tuple(pairs))


def chosen(trunks: Sequence[Trunk], sizes: Sequence[str] | None) -> list[Trunk]:
    """The trunks of these names, or all. Raises InputError listing the names there are."""
    there = [trunk.name for trunk in trunks]
    for name in sizes or ():
        if name not in there:
            raise InputError(f"--sizes: no size {name!r} on this ladder; there are {', '.join(there)}")
    return [trunk for trunk in trunks if sizes is None or trunk.name in sizes]


def _check_enough(trunks: Sequence[Trunk], seeds: int, manifest: Manifest) -> None:
    """Refuse what assess or the reference law would refuse, which are only asked after training."""
    if len(trunks) < LEAST_SIZES:
        raise InputError(f"--sizes: {len(trunks)} sizes; the reference law needs {LEAST_SIZES} or more")
    check_identifiable(_imagined(trunks, seeds, manifest))


def _imagined(trunks: Sequence[Trunk], seeds: int, manifest: Manifest) -> RunTable:
    """The table that the reference runs will make, with losses that fall."""
    rungs = [(trunk, rung.steps * trunk.batch_tokens) for trunk in trunks for rung in trunk.rungs] * seeds
    tokens = [float(seen) for _, seen in rungs]
    compute = [trunk.flops_per_token * seen for trunk, seen in rungs]
    unique = [min(seen, manifest.tokens) for seen in tokens]
    points = Points.of([trunk.parameters for trunk, _ in rungs], tokens, compute, unique)
    return RunTable.of(points, [flops**-0.1 for flops in compute], source="--sizes: the rungs chosen")


def _pair(question: DeriskQuestion, trunk: Trunk, shift: int, files: CampaignFiles, manifest: Manifest) -> Pair:
    """The same trunk under both campaigns, both seeds shifted alike."""
    try:
        without, with_change = _shifted(question.campaign, shift), _shifted(question.changed, shift)
        reference = TrunkTask.of(files.ladder, trunk, without, manifest.digest)
        other = changed_trunk(trunk, question.changed, manifest.vocab_size)
        changed = TrunkTask.of(files.ladder, other, with_change, manifest.digest)
        check_task(changed)
    except ValidationError as error:
        raise refusal(error, trunk, question.where) from None
    return Pair(without.seed, reference, changed)


def _shifted(campaign: Campaign, shift: int) -> Campaign:
    return Campaign.model_validate(campaign.model_dump(exclude_unset=True) | {"seed": campaign.seed + shift})


def _check_apart(pairs: Sequence[Pair], question: DeriskQuestion) -> None:
    """A run compared with itself, or counted on both sides, says nothing."""
    if {pair.reference.folder for pair in pairs} & {pair.changed.folder for pair in pairs}:
        seeds = ", ".join(str(seed) for seed in sorted({pair.seed for pair in pairs}))
        raise InputError(
            f"{question.where}: [set]: runs with the change are the very runs without it; change what the rungs learn "
            f"from, or set a seed that is far enough from {seeds}"
        )


def reference_table(plan: DeriskPlan, manifest: Manifest, losses: Sequence[float]) -> RunTable:
    """The runs without the change as a table, `losses` in the order of `reference_runs`."""
    return run_table(reference_runs(plan), losses, "derisk, runs without the change", manifest.tokens)


def reference_runs(plan: DeriskPlan) -> list[RungResult]:
    """All rungs without the change."""
    return [result for pair in plan.pairs for result in pair.reference.results]


def check_schedule(campaign: Campaign, changed: Campaign, where: str) -> None:
    """Raises InputError for what every trunk has its own of: a change of it would be without effect."""
    for key in OF_THE_LADDER:
        if getattr(campaign.train.schedule, key) != getattr(changed.train.schedule, key):
            raise InputError(f"{where}: [set] train.schedule.{key}: the ladder sets it for every rung")


def changed_trunk(trunk: Trunk, changed: Campaign, vocab_size: int) -> Trunk:
    """The trunk with the change's model at its width; name, steps, batch and warm-up stay, so do N and D aimed at.

    Raises ValidationError where the changed model has no such width.
    """
    model = scaled_model(changed.model, trunk.model.resolved_width)
    flops = training_flops_per_token(model, vocab_size)
    return replace(trunk, model=model, parameters=multiplying_parameters(model, vocab_size), flops_per_token=flops)


def check_task(task: TrunkTask) -> None:
    """Raises ValidationError where a trunk or rung of the task is no valid campaign."""
    trunk_campaign(task.campaign, task.trunk)
    for rung in task.trunk.rungs:
        rung_campaign(task.campaign, task.trunk, rung)


def refusal(error: ValidationError, trunk: Trunk, where: str) -> InputError:
    """One line for a change that does not fit a rung."""
    return InputError(explain(error, f"{where}: at the ladder's {trunk.name}", Campaign))
