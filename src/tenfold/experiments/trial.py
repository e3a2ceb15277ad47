"""How long the target will take here: its own steps and one evaluation, timed for seconds and thrown away.

A campaign with learners starts them and their syncer in a scratch folder.
"""

import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tenfold.config import FILE_NAME, Campaign, load_campaign, render_campaign
from tenfold.core import CampaignFiles, TenfoldError, duration, run_console
from tenfold.data import Workspace
from tenfold.evaluate import holdout_scorer
from tenfold.learners import RunLog, batch_of, train_with_learners
from tenfold.model import Transformer
from tenfold.scaling import LEVELS, student
from tenfold.train import Checkpointer, Learner, Ranks, RunPlan, batches, build_learner, choose_device, execute

WARM_UP, TIMED = 2, 6  # steps
# Spread of a run's rate about that of its first seconds, as the ratio of a standard deviation: machines are shared, and
# clocks fall as they warm up. Student's t with FREEDOM degrees of freedom widens it, as for the six steps timed.
SPREAD = 0.06
FREEDOM = 5
ROUNDS = 8  # contributions of every learner to a fragment, at least
LENGTH_S = 4.0  # of training, at least
LONGEST_S = 120.0
LONGER = 4  # times the length at most, while a learner comes too late to be timed
PREFIX = ".trial-"


@dataclass(frozen=True)
class TimeTrial:
    """Seconds forecast for the whole training, and what was measured."""

    seconds: float
    intervals: dict[str, tuple[float, float]]
    basis: dict[str, Any]


@dataclass(frozen=True)
class _Steps:
    """Time of all steps of the target, as far as a few tell."""

    seconds: float
    spread: float
    """Standard error, as a share."""
    rate: str
    basis: dict[str, Any]


def time_trial(workspace: Workspace, plan: RunPlan) -> TimeTrial:
    """Time steps and one evaluation of the target with its own weights, optimizers and data.

    With [learners] those train a little, beside their syncer. Raises TenfoldError when they cannot.
    """
    campaign, files, manifest, console = workspace.campaign, workspace.files, workspace.manifest, workspace.console
    ranks = Ranks(0, 1, choose_device(campaign.train.device))
    learner = build_learner(campaign, files.data, manifest, ranks)
    console.say("predict: timing the target")
    steps = _plain_steps(learner)
    if campaign.learners.count:
        steps = _learners_steps(workspace, plan, steps.seconds / plan.steps)
    began = time.perf_counter()
    holdout_scorer(campaign, files, manifest)(learner.model, ranks.device)
    evaluation = time.perf_counter() - began
    evaluations = plan.steps // plan.evaluate_every + (plan.steps % plan.evaluate_every > 0)
    seconds = steps.seconds + evaluation * evaluations
    console.say(f"predict: {plan.steps} steps, {steps.rate}: about {duration(seconds)} on this machine")
    spread = max(SPREAD, steps.spread)
    widths = {str(level): student(level, FREEDOM) for level in LEVELS}
    intervals = {level: (seconds / (1 + t * spread), seconds * (1 + t * spread)) for level, t in widths.items()}
    return TimeTrial(seconds, intervals, steps.basis | {"evaluation_seconds": evaluation})


def _learners_steps(workspace: Workspace, plan: RunPlan, step_seconds: float) -> _Steps:
    found = time_learners(workspace, plan, step_seconds)
    seconds = found.other_seconds + plan.steps * plan.tokens_per_step / found.tokens_per_second
    rate = f"{workspace.campaign.learners.count} learners at {found.tokens_per_second:,.0f} tok/s together"
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


@dataclass(frozen=True)
class LearnersTrial:
    """What a trial with several learners timed."""

    tokens_per_second: float
    """Rate of all learners together."""
    spread: float
    """Standard error of that, as a share of it."""
    other_seconds: float
    """Starting and ending."""


def time_learners(workspace: Workspace, plan: RunPlan, step_seconds: float) -> LearnersTrial:
    """Train the first tokens as `tenfold train` will, but without its faults and evaluations, and throw them away.

    `step_seconds`: what a step takes about, without learners. Raises TenfoldError when they are not started from here,
    when their rounds are too long to be tried, or when one of them came too late to be timed. On a busy machine a
    learner may start late: the trial is then made again, twice and four times as long.
    """
    campaign = workspace.campaign
    if campaign.learners.launch != "local":
        raise TenfoldError(f'only learners with launch = "local" can be tried out, not "{campaign.learners.launch}"')
    steps = max(ROUNDS * campaign.learners.inner_steps * _steps_of_all(campaign), math.ceil(LENGTH_S / step_seconds))
    if min(steps, plan.steps) * step_seconds > LONGEST_S:
        raise TenfoldError(f"{steps} steps are too long to be tried; learners.inner_steps makes them so many")
    tried = steps
    while True:
        try:
            return _tried_for(workspace, plan, min(tried, plan.steps))
        except _CameTooLateError:
            tried *= 2
            if tried > min(LONGER * steps, plan.steps) or tried * step_seconds > LONGEST_S:
                raise


class _CameTooLateError(TenfoldError):
    """A learner contributed too seldom while the others did, so that its rate is not known."""


def _tried_for(workspace: Workspace, plan: RunPlan, steps: int) -> LearnersTrial:
    campaign, files = workspace.campaign, workspace.files
    began = time.monotonic()
    with _scratch(files, _short(campaign, plan, steps)) as scratch:
        short = load_campaign(scratch.directory)
        with (
            run_console(enabled=False) as quiet,
            Checkpointer(scratch.directory / "checkpoints", keep_last=1) as checkpointer,
        ):
            result, _ = train_with_learners(
                Workspace(short, scratch, quiet, known_manifest=workspace.manifest), checkpointer, _no_scores
            )
        with RunLog.opened(scratch.learners) as log:
            rate, spread = _rate(log, campaign.learners.count)
    return LearnersTrial(rate, spread, max(0.0, time.monotonic() - began - result.tokens / rate))


@contextmanager
def _scratch(files: CampaignFiles, values: Mapping[str, Any]) -> Iterator[CampaignFiles]:
    """A campaign of these values beside this one, on its corpus."""
    for killed in files.directory.glob(f"{PREFIX}*"):
        shutil.rmtree(killed, ignore_errors=True)
    scratch = CampaignFiles(Path(tempfile.mkdtemp(prefix=PREFIX, dir=files.directory)))
    try:
        scratch.data.symlink_to(files.data.resolve(), target_is_directory=True)
        text = render_campaign(values, "a trial of the campaign above; it may be deleted")
        (scratch.directory / FILE_NAME).write_text(text, encoding="utf-8")
        yield scratch
    finally:
        shutil.rmtree(scratch.directory, ignore_errors=True)


def _short(campaign: Campaign, plan: RunPlan, steps: int) -> dict[str, Any]:
    unused: dict[str, Any] = {"chaos": True, "checkpoint": {"url", "endpoint_url"}}  # a URL may hold a password
    values = campaign.model_dump(mode="json", exclude_unset=True, exclude=unused)
    compiled = "on" if plan.compiled else "off"  # as the long run decides
    values["train"] = values.get("train", {}) | {"tokens": steps * plan.tokens_per_step, "compile": compiled}
    return values


def _steps_of_all(campaign: Campaign) -> int:
    """Steps of the run's batch that one inner step of every learner makes, at least one."""
    learners, train = campaign.learners, campaign.train
    return -(-batch_of(campaign) * learners.count * campaign.model.context // train.batch_tokens)


def _no_scores(_: Transformer, __: torch.device) -> Mapping[str, float]:
    return {}


def _rate(log: RunLog, learners: int) -> tuple[float, float]:
    """Tokens a second while all learners contribute, and the standard error of that as a share."""
    arrivals: dict[int, list[tuple[float, int]]] = {}
    for at, incarnation, tokens in log.arrivals():
        arrivals.setdefault(incarnation, []).append((at, tokens))
    if len(arrivals) < learners:
        raise _CameTooLateError(f"only {len(arrivals)} of {learners} learners came to contribute in the trial")
    begin = max(found[0][0] for found in arrivals.values())
    end = min(found[-1][0] for found in arrivals.values())
    rates, variance = [], 0.0
    for found in arrivals.values():
        inside = [(at, tokens) for at, tokens in found if begin <= at <= end]
        seconds_per_token = [(at - before) / tokens for (before, _), (at, tokens) in pairwise(inside)]
        if len(seconds_per_token) < 2:
            raise _CameTooLateError("a learner came too late in the trial to be timed")
        mean = statistics.mean(seconds_per_token)
        rates.append(1 / mean)
        variance += (statistics.stdev(seconds_per_token) / mean**2) ** 2 / len(seconds_per_token)
    return sum(rates), math.sqrt(variance) / sum(rates)
