"""How long the target will take here: a few of its own steps and one of its evaluations, timed and thrown away."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from tenfold.campaign.files import CampaignFiles
from tenfold.campaign.stages import holdout_scorer
from tenfold.config import Campaign
from tenfold.data import Manifest
from tenfold.train.batches import batches
from tenfold.train.console import RunConsole, duration
from tenfold.train.learner import Learner, build_learner
from tenfold.train.plan import RunPlan
from tenfold.train.ranks import Ranks, choose_device
from tenfold.train.step import train_step

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


def time_trial(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, plan: RunPlan, console: RunConsole
) -> Trial:
    """Time steps and one evaluation of the target with its own weights, optimizers and data."""
    ranks = Ranks(0, 1, choose_device(campaign.train.device))
    learner = build_learner(campaign, files.data, manifest, ranks)
    times = _step_seconds(learner)
    step = statistics.median(times)
    began = time.perf_counter()
    holdout_scorer(campaign, files, manifest)(learner)
    evaluation = time.perf_counter() - began
    evaluations = plan.steps // plan.evaluate_every + (plan.steps % plan.evaluate_every > 0)
    seconds = step * plan.steps + evaluation * evaluations
    console.say(f"predict: {plan.steps} steps of {step:.3g} s: about {duration(seconds)} on this machine")
    spread = max(SPREAD, statistics.stdev(times) / step / TIMED**0.5)
    intervals = {level: (seconds / (1 + t * spread), seconds * (1 + t * spread)) for level, t in STUDENT.items()}
    return Trial(seconds, intervals, {"step_seconds": times, "evaluation_seconds": evaluation})


def _step_seconds(learner: Learner) -> list[float]:
    plan, train = learner.plan, learner.campaign.train
    times = []
    for batch in batches(
        learner.stream,
        learner.ranks,
        first_step=0,
        steps=min(WARM_UP + TIMED, plan.steps),
        sequences=plan.sequences,
        micro_batch=plan.micro_batch,
    ):
        began = time.perf_counter()
        result = train_step(
            learner.root,
            learner.optimizers,
            batch.micro_batches,
            0.0,
            train.optimizer.clip_norm,
            train.optimizer.z_loss,
        )
        result.nats.item()  # waits for the device
        times.append(time.perf_counter() - began)
    return times[WARM_UP:] or times
