"""Training with several learners, led from this machine: start, supervise, score what is published, keep the end."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, Interrupted, RunConsole, TenfoldError
from tenfold.data import Stream, Workspace, epochs_in_words
from tenfold.evaluate import HoldoutScorer, TurnWatch, turn_in_words
from tenfold.learners.launch.local_run import LocalRun
from tenfold.learners.launch.processes import (
    Claim,
    address_file,
    check_same_run,
    claim_learners,
    open_ledger_of,
    plan_with_learners,
)
from tenfold.learners.launch.slurm import check_slurm
from tenfold.learners.launch.supervisor import Supervisor
from tenfold.learners.record.log import published_weights
from tenfold.learners.settings import batch_of, server_security
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.wire import check_security
from tenfold.learners.wire.security import make_token
from tenfold.ledger import BandLeft, CheckpointDamaged, Ledger, RunFailed, SessionStarted, holdout_metric
from tenfold.machine import choose_compute_dtype
from tenfold.model import Transformer
from tenfold.train import (
    Checkpointer,
    CheckpointState,
    Damaged,
    RunIdentity,
    RunPlan,
    TrainResult,
    choose_device,
    owner_of,
    start_run,
    weights_digest,
)

PATIENCE_S = 10.0


class LossFollower(Protocol):
    """Follows the loss of a run, a group of steps at a time, as the band of a forecast does."""

    @property
    def group(self) -> int:
        """Steps between two losses that it is shown."""

    def observe(self, step: int, loss: float) -> str | None:
        """Take the mean loss up to one step; what there is to report about it, or None."""

    def __str__(self) -> str:
        """Where the run stands, in a few words."""


OpenFollower = Callable[[RunIdentity, RunPlan], LossFollower | None]
"""Makes the follower of a run, once its identity and its steps are known; None for a run that nobody follows."""


class RunningScores:
    """Scores what is published each time the run has come `every` steps further, in a thread beside it.

    The learners do not wait for it; what falls due while a score is under way is left out, and one that fails is said
    and costs nothing else.
    """

    def __init__(
        self,
        every: int,
        score: Callable[[], Mapping[str, float]],
        note: Callable[[int, Mapping[str, float]], None],
        warn: Callable[[str], None],
    ) -> None:
        """`note(step, scores)` takes bits per byte by holdout, from the thread."""
        self._every, self._score, self._note, self._warn = every, score, note, warn
        self._next: int | None = None
        self._thread: threading.Thread | None = None

    def reached(self, step: int) -> None:
        """The run has done so many steps, and goes on."""
        if self._next is not None and step >= self._next and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self.score, args=(step,), name="scores", daemon=True)
            self._thread.start()
            self._next = None
        if self._next is None:
            self._next = (step // self._every + 1) * self._every

    def score(self, step: int) -> None:
        """Score what is published now."""
        try:
            self._note(step, self._score())
        except Exception as error:  # whatever it is, a run must not end of its scores
            self._warn(f"no scores at step {step} ({type(error).__name__}: {str(error)[:200]})")

    def close(self) -> None:
        """Wait for the score under way, but not long."""
        if self._thread:
            self._thread.join(PATIENCE_S)


def train_with_learners(
    workspace: Workspace,
    checkpointer: Checkpointer,
    scorer: HoldoutScorer,
    open_follower: OpenFollower | None = None,
) -> tuple[TrainResult, RunIdentity]:
    """Train until all samples are; what the syncer ends with becomes the campaign's last checkpoint.

    The follower is shown the losses of the console's lines, and what it says is added to them.
    """
    campaign, files, console = workspace.campaign, workspace.files, workspace.console
    batch_of(campaign)  # refuses what cannot be shared out, before anything starts
    if campaign.learners.launch == "slurm":
        check_slurm()
    plan, identity = plan_with_learners(campaign, workspace.manifest)
    files.learners.mkdir(parents=True, exist_ok=True)
    check_security(campaign.learners.bind, server_security(campaign, make_token(files.learners / "token")))
    for shard in range(campaign.learners.syncer_shards):
        address_file(files.learners, shard).unlink(missing_ok=True)
    checkpointer.prepare(owner_of(campaign))
    kept = checkpointer.latest()
    if kept.checkpoint:
        check_same_run(kept.checkpoint, identity)
    claim = claim_learners(files, identity, console.warn)
    claim.save()
    console.say(_headline(campaign, plan))
    with (
        _recorded(campaign, files, claim, plan.steps),
        closing(Recorder(lambda: open_ledger_of(campaign, files, identity), lambda _: None)) as recorder,
    ):
        recorder.say(SessionStarted(), _headline(campaign, plan))
        _set_aside(kept.damaged, checkpointer, recorder, console)
        follower = open_follower(identity, plan) if open_follower else None
        run = _local_run(workspace, plan)
        score = partial(_score_published, workspace, scorer, plan)
        epochs = Stream(files.data, workspace.manifest, campaign.seed, plan.context).epochs
        note = partial(_note_scores, recorder, console, TurnWatch(), lambda step: epochs(step * plan.sequences))
        running = RunningScores(plan.evaluate_every, score, note, console.warn)
        with closing(running) as scores:
            follow = _following(follower, recorder, claim, scores, plan.steps, console.warn)
            Supervisor(run, console, recorder, follow).train()
            result = _keep(workspace, checkpointer, claim, plan)
        scores.score(plan.steps)
    return result, identity


def _set_aside(damaged: Iterable[Damaged], checkpointer: Checkpointer, recorder: Recorder, console: RunConsole) -> None:
    """Make way for the checkpoint that this run ends with."""
    for each in damaged:
        message = f"{each.path}: {each.reason}; kept as {checkpointer.set_aside(each)}"
        console.warn(message)
        recorder.say(CheckpointDamaged(each.path, each.reason), message)


def _keep(workspace: Workspace, checkpointer: Checkpointer, claim: Claim, plan: RunPlan) -> TrainResult:
    """What the syncer ended with becomes a checkpoint, in place of one that an earlier command made of the same run."""
    weights, identity, seconds = _published(workspace), claim.identity, claim.seconds
    meta = {"identity": asdict(identity), "fingerprint": identity.fingerprint, "seconds": seconds}
    checkpointer.remove(plan.steps)
    checkpointer.save(CheckpointState(weights, plan.steps, plan.steps * plan.sequences, meta))
    checkpointer.wait()
    return TrainResult(
        steps=plan.steps,
        tokens=plan.steps * plan.tokens_per_step,
        parameters=plan.parameters,
        weights_digest=weights_digest(weights),
        fingerprint=identity.fingerprint,
        seconds=seconds,
    )


def _published(workspace: Workspace) -> dict[str, Tensor]:
    return published_weights(workspace.campaign, workspace.manifest, workspace.files)


def _local_run(workspace: Workspace, plan: RunPlan) -> LocalRun:
    return LocalRun(
        campaign=workspace.campaign,
        directory=workspace.files.directory,
        overrides=workspace.overrides,
        token=make_token(workspace.files.learners / "token"),
        sequences=plan.sequences,
        steps=plan.steps,
        tokens_per_sample=plan.context,
    )


@contextmanager
def _recorded(campaign: Campaign, files: CampaignFiles, claim: Claim, steps: int) -> Iterator[None]:
    """The run in the ledger: begun now, and closed as done, interrupted, or failed with an incident."""
    with closing(Ledger(files.ledger)) as ledger:
        for fingerprint in {claim.identity.fingerprint, claim.earlier}:
            if fingerprint is not None:
                ledger.close_killed("train", fingerprint)
        claim.take_over_metrics(ledger, start_run(ledger, campaign, claim.identity), steps)
    status, failure = "failed", ""
    try:
        yield
        status = "done"
    except Interrupted:
        status = "interrupted"
        raise
    except Exception as error:
        failure = str(error) if isinstance(error, TenfoldError) else f"{type(error).__name__}: {error}"
        raise
    finally:
        claim.save_if_possible(lambda _: None)
        with closing(Ledger(files.ledger)) as ledger:
            run_id = start_run(ledger, campaign, claim.identity)
            if failure:
                ledger.open_incident(RunFailed(), failure, run_id=run_id)
            ledger.finish_run(run_id, status)


def _score_published(workspace: Workspace, scorer: HoldoutScorer, plan: RunPlan) -> Mapping[str, float]:
    campaign, vocabulary = workspace.campaign, workspace.manifest.vocab_size
    torch.set_num_threads(plan.threads)  # as few as a learner has, beside which it runs
    device = choose_device(campaign.train.device)
    model = Transformer(campaign.model, vocabulary, choose_compute_dtype(device, campaign.train.precision))
    published = _published(workspace)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(published[f"model/{name}"])
    return scorer(model.to(device), device)


def _note_scores(
    recorder: Recorder,
    console: RunConsole,
    watch: TurnWatch,
    epochs: Callable[[int], Mapping[str, float]],
    step: int,
    scores: Mapping[str, float],
) -> None:
    for name, bits_per_byte in scores.items():
        recorder.metric(step, holdout_metric(name), bits_per_byte)
    console.say(f"step {step}  bits per byte " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    for turn in watch.observe(step, scores):
        message = turn_in_words(turn, epochs_in_words(epochs(step)))
        console.warn(message)
        recorder.say(turn, message)


def _following(
    follower: LossFollower | None,
    recorder: Recorder,
    claim: Claim,
    scores: RunningScores,
    last: int,
    warn: Callable[[str], None],
) -> Callable[[int, float], str]:
    """At each console line: shows the follower the loss at the end of every group passed, and keeps the time."""
    seen = 0

    def follow(step: int, loss: float) -> str:
        nonlocal seen
        claim.save_if_possible(warn)
        if step < last:
            scores.reached(step)
        if follower is None:
            return ""
        while seen + follower.group <= step:
            seen += follower.group
            news = follower.observe(seen, loss)
            if news:
                recorder.say(BandLeft(seen), news)
        return f"  {follower}"

    return follow


def _headline(campaign: Campaign, plan: RunPlan) -> str:
    learners = campaign.learners
    return (
        f"training {plan.parameters:,} parameters on {plan.steps * plan.tokens_per_step:,} tokens: "
        f"{learners.count} learners, {batch_of(campaign) * plan.context:,} tokens an inner step, "
        f"{learners.fragments} fragments sent every {learners.inner_steps} steps in {learners.precision}"
    )
