"""A trunk of the ladder with a change made to it."""

from dataclasses import replace

from pydantic import ValidationError

from tenfold.config import Campaign
from tenfold.config.base import explain
from tenfold.core.errors import InputError
from tenfold.experiments.design import Trunk, multiplying_parameters, rung_campaign, trunk_campaign
from tenfold.experiments.design.design import scaled_model
from tenfold.experiments.ladder.tasks import Task
from tenfold.model import training_flops_per_token

OF_THE_LADDER = ("kind", "warmup", "decay")


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


def check_task(task: Task) -> None:
    """Raises ValidationError where a trunk or rung of the task is no valid campaign."""
    trunk_campaign(task.campaign, task.trunk)
    for rung in task.trunk.rungs:
        rung_campaign(task.campaign, task.trunk, rung)


def refusal(error: ValidationError, trunk: Trunk, where: str) -> InputError:
    """One line for a change that does not fit a rung."""
    return InputError(explain(error, f"{where}: at the ladder's {trunk.name}", Campaign))
