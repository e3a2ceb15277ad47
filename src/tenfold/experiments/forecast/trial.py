"""How long the target will take here: a few of its own steps and one of its evaluations, timed and thrown away."""

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from tenfold.config import Campaign
from tenfold.core.console import RunConsole
from tenfold.core.folder import CampaignFiles
from tenfold.core.text import duration
from tenfold.data import Manifest
from tenfold.evaluate.holdouts import holdout_scorer
from tenfold.experiments.forecast.learners_trial import time_learners
from tenfold.train.batches import batches
from tenfold.train.learner import Learner, build_learner
from tenfold.train.plan import RunPlan
from tenfold.train.ranks import Ranks, choose_device
from tenfold.train.step import execute

WARM_UP, TIMED = 2, 6  # steps
# Spread of a run's rate about that of its first seconds, as the ratio of a standard deviation: machines are shared, and
# clocks fall as they warm up. Student's t with 5 degrees of freedom widens it, as for the six steps timed.
SPREAD = 0.06
STUDENT = {"0.5": 0.73, "0.8": 1.48, "0.95": 2.57}


@dataclass(frozen=True)
class Trial:
    """Seconds forecast for the whole training, and what was measured."""

    seconds: float
    intervals: dict[str, tuple[float, float]]
    basis: dict[str, Any]


@dataclass(frozen=True)
class _Steps:
    """All steps of the target, as far as a few tell."""

    seconds: float
    spread: float
    """Standard error, as a share."""
    rate: str
    basis: dict[str, Any]


def time_trial(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, plan: RunPlan, console: RunConsole
) -> Trial:
    """Time steps and one evaluation of the target with its own weights, optimizers and data.

    With [learners] those train a little, beside their syncer. Raises TenfoldError when they cannot.
    """
    ranks = Ranks(0, 1, choose_device(campaign.train.device))
    learner = build_learner(campaign, files.data, manifest, ranks)
    console.say("predict: timing the target")
    steps = _plain_steps(learner)
    if campaign.learners.count:
        steps = _learners_steps(campaign, files, manifest, plan, steps.seconds / plan.steps)
    began = time.perf_counter()
    holdout_scorer(campaign, files, manifest)(learner.model, ranks.device)
    evaluation = time.perf_counter() - began
    evaluations = plan.steps // plan.evaluate_every + (plan.steps % plan.evaluate_every > 0)
    seconds = steps.seconds + evaluation * evaluations
    console.say(f"predict: {plan.steps} steps, {steps.rate}: about {duration(seconds)} on this machine")
    spread = max(SPREAD, steps.spread)
    intervals = {level: (seconds / (1 + t * spread), seconds * (1 + t * spread)) for level, t in STUDENT.items()}
    return Trial(seconds, intervals, steps.basis | {"evaluation_seconds": evaluation})


def _learners_steps(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, plan: RunPlan, step_seconds: float
) -> _Steps:
    found = time_learners(campaign, files, manifest, plan, step_seconds)
    seconds = found.other_seconds + plan.steps * plan.tokens_per_step / found.tokens_per_second
    rate = f"{campaign.learners.count} learners at {found.tokens_per_second:,.0f} tok/s together"
    return _Steps(seconds, found.spread, rate, asdict(found))


def _plain_steps(learner: Learner) -> _Steps:
    times = _step_seconds(learner)
    step = statistics.median(times)
    error = statistics.stdev(times) / step / len(times) ** 0.5 if len(times) > 1 else 0.0
    return _Steps(step * learner.plan.steps, error, f"{step:.3g} s each", {"step_seconds": times})


def _step_seconds(learner: Learner) -> list[float]:
    plan = learner.plan
    steps = batches(
        learner.stream,
        learner.ranks,
        first_step=0,
        steps=min(WARM_UP + TIMED, plan.steps),
        sequences=plan.sequences,
        micro_batch=plan.micro_batch,
    )
    times = [execute(learner, batch).seconds for batch in steps]
    return times[WARM_UP:] or times
