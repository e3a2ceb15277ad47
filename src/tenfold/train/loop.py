"""The loop around the step: resume, log, evaluate, save, stop when asked."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

import torch

from tenfold.core.console import RunConsole
from tenfold.core.errors import Interrupted, NotFinite, TenfoldError
from tenfold.core.signals import StopRequest, stop_on_signal
from tenfold.machine import forget_peak, measured_peak, peak_resident_bytes
from tenfold.model import Transformer
from tenfold.train.batches import Batch, batches
from tenfold.train.checkpoint import Checkpointer, CheckpointState, weights_digest
from tenfold.train.console import StepReport, Stopwatch
from tenfold.train.identity import check_resumable
from tenfold.train.journal import Journal
from tenfold.train.learner import Learner
from tenfold.train.schedule import learning_rate_factor
from tenfold.train.step import train_step

HoldoutScorer = Callable[[Transformer, torch.device], Mapping[str, float]]
"""Scores a model, which lies on that device, on every holdout: name → bits per byte."""


class LossWatcher(Protocol):
    """Follows the training loss of a run, as a forecast's tracker does."""

    def observe(self, step: int, loss: float) -> str | None:
        """Take the loss of one step; what there is to report about it, or None."""

    def __str__(self) -> str:
        """Where the run stands, in a few words."""


@dataclass(frozen=True)
class Part:
    """Which part of a run to train, for runs that branch off others. Default: the whole of it."""

    first_step: int = 0
    """The learner comes with the state after this many steps."""
    save_at: frozenset[int] = frozenset()
    """Steps after which to save besides the usual ones."""
    brief: bool = False
    """One of many small runs: no console lines, no new measurement of the peak."""


WHOLE = Part()


@dataclass(frozen=True)
class TrainResult:
    """A finished run. `weights_digest` hashes all final weights; `seconds` counts every process that took part."""

    steps: int
    tokens: int
    parameters: int
    weights_digest: str
    fingerprint: str
    seconds: float


@dataclass(frozen=True)
class StepMeasure:
    """One step, all ranks together: nats per token, bytes trained on, gradient norm, whether to stop."""

    nats: float
    bytes: float
    grad_norm: float
    stop: bool


class Loop:
    """State of one run while it goes on."""

    def __init__(
        self,
        learner: Learner,
        checkpointer: Checkpointer,
        journal: Journal,
        console: RunConsole,
        score_holdouts: HoldoutScorer,
        part: Part = WHOLE,
        watcher: LossWatcher | None = None,
    ) -> None:
        self.learner, self.plan = learner, learner.plan
        self.checkpointer, self.journal, self.console = checkpointer, journal, console
        self.score_holdouts, self.part, self.watcher = score_holdouts, part, watcher
        self.step = part.first_step
        self._watch = Stopwatch()
        self._last_report = self.step
        self._began, self._seconds_before = time.monotonic(), 0.0

    def run(self) -> TrainResult:
        """Train to the end. Raises Interrupted on SIGINT or SIGTERM, NotFinite when the loss is not finite."""
        try:
            return self._run()
        except Interrupted:
            raise
        except TenfoldError as error:
            self.journal.incident("failed", str(error))
            self.journal.finish("failed")
            raise

    def _run(self) -> TrainResult:
        self.checkpointer.prepare()
        self.resume()
        self._peak = self._measure_peak()
        if not self.part.brief:
            forget_peak()
            self.console.say(self._headline())
        with stop_on_signal() as stop:
            self._steps(stop)
        self.checkpointer.wait()
        weights = {n: t for n, t in self.learner.state_tensors().items() if n.startswith("model/")}
        self.journal.finish("done")
        return TrainResult(
            steps=self.plan.steps,
            tokens=self.plan.steps * self.plan.tokens_per_step,
            parameters=self.plan.parameters,
            weights_digest=weights_digest(weights),
            fingerprint=self.learner.identity.fingerprint,
            seconds=self._seconds,
        )

    @property
    def _seconds(self) -> float:
        """Time spent on this run so far, that of the processes before this one up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def _measure_peak(self) -> float:
        """FLOP/s that MFU is a share of; only the rank that reports it needs to know."""
        if not self.learner.ranks.is_first:
            return math.inf
        again = not self.part.brief
        return measured_peak(self.learner.ranks.device, self.plan.threads, self.plan.compute_dtype, again=again).flops

    def resume(self) -> None:
        """Go back to the newest checkpoint that is whole, if there is one."""
        found = self.checkpointer.latest()
        for damaged in found.damaged:
            aside = self.checkpointer.set_aside(damaged)
            self._warn("damaged-checkpoint", f"{damaged.path}: {damaged.reason}; skipped, and kept as {aside}")
        if found.checkpoint is None:
            return
        warnings = check_resumable(found.checkpoint.meta["identity"], self.learner.identity, found.checkpoint.path)
        for warning in warnings:
            self._warn("resume-not-exact", f"{warning}: the run goes on, but not bit for bit")
        self.checkpointer.load(found.checkpoint, self.learner.state_tensors())
        self.step = self._last_report = found.checkpoint.manifest.next_sample // self.plan.sequences
        self._seconds_before = found.checkpoint.meta["seconds"]
        self.journal.continue_from(found.checkpoint.meta["fingerprint"], self.step)
        if not self.part.brief:
            self.console.say(f"resumed from {found.checkpoint.path} at step {self.step}/{self.plan.steps}")
        self.journal.event("resumed", f"resumed at step {self.step}", step=self.step)
        if self.watcher:
            for step, loss in self.journal.recorded("train/loss", self.step):
                self.watcher.observe(step, loss)

    def _steps(self, stop: StopRequest) -> None:
        plan = self.plan
        self._watch.reset()
        for batch in batches(
            self.learner.stream,
            self.learner.ranks,
            first_step=self.step,
            steps=plan.steps,
            sequences=plan.sequences,
            micro_batch=plan.micro_batch,
        ):
            with self._watch.step():
                measure = self._train_on(batch, stop)
            self.step = batch.step + 1
            self._after_step(batch, measure)

    def _train_on(self, batch: Batch, stop: StopRequest) -> StepMeasure:
        """One step, its figures agreed on by all ranks; refuses to go on from a loss that is not finite."""
        config = self.learner.campaign.train
        factor = learning_rate_factor(config.schedule, batch.step, self.plan.steps)
        result = train_step(
            self.learner.root,
            self.learner.optimizers,
            batch.micro_batches,
            factor,
            config.optimizer.clip_norm,
            config.optimizer.z_loss,
        )
        batch_bytes = self.learner.batch_bytes(batch.micro_batches)
        figures = torch.stack([result.nats.double(), batch_bytes.double(), result.grad_norm.double()])
        asked = figures.new_tensor([float(stop.is_set)])
        nats, mean_bytes, grad_norm, stopping = self.learner.ranks.mean(torch.cat([figures, asked])).tolist()
        if not (math.isfinite(nats) and math.isfinite(grad_norm)):
            self._stop_not_finite(batch, nats, grad_norm)
        return StepMeasure(nats, mean_bytes * self.learner.ranks.world_size, grad_norm, stopping > 0)

    def _after_step(self, batch: Batch, measure: StepMeasure) -> None:
        checkpoint, train = self.learner.campaign.checkpoint, self.learner.campaign.train
        last = self.step == self.plan.steps
        bits_per_byte = measure.nats * self.plan.tokens_per_step / measure.bytes / math.log(2)
        rate = train.optimizer.learning_rate * learning_rate_factor(train.schedule, batch.step, self.plan.steps)
        self.journal.note(
            self.step, loss=measure.nats, bits_per_byte=bits_per_byte, grad_norm=measure.grad_norm, learning_rate=rate
        )
        self._watch_loss(self.step, measure.nats)
        if not self.part.brief:
            self.console.advance(self.step, self.plan.steps)
        if last or self.step % train.log_every == 0:
            self._report(measure, bits_per_byte, rate)
        if last or self.step % self.plan.evaluate_every == 0:
            self._evaluate()
        stopping = measure.stop and not last
        if last or stopping or self.step % checkpoint.every == 0 or self.step in self.part.save_at:
            self._save()
        if stopping:
            self._stop_when_asked()

    def _watch_loss(self, step: int, loss: float) -> None:
        news = self.watcher.observe(step, loss) if self.watcher else None
        if news:
            self._warn("left-the-band", news)

    def _report(self, measure: StepMeasure, bits_per_byte: float, rate: float) -> None:
        tokens = (self.step - self._last_report) * self.plan.tokens_per_step
        seconds, step_seconds = self._watch.seconds, self._watch.step_seconds
        self._watch.reset()  # what follows, the ledger and the console, counts into the next interval
        per_second = tokens / seconds
        mfu = per_second * self.plan.flops_per_token / self._peak / self.learner.ranks.world_size
        overhead = max(0.0, 1 - step_seconds / seconds)
        self.journal.note(self.step, tokens_per_second=per_second, mfu=mfu, overhead=overhead)
        report = StepReport(
            step=self.step,
            steps=self.plan.steps,
            loss=measure.nats,
            bits_per_byte=bits_per_byte,
            learning_rate=rate,
            grad_norm=measure.grad_norm,
            tokens_per_second=per_second,
            mfu=mfu,
            eta=(self.plan.steps - self.step) * self.plan.tokens_per_step / per_second,
            epochs=self.step * self.plan.sequences / self.learner.stream.samples_per_epoch,
        )
        if not self.part.brief:
            self.journal.note(self.step, peak_memory=float(peak_resident_bytes()))
            self.console.say(report.line() + (f"  {self.watcher}" if self.watcher else ""))
        self.journal.flush()
        self._last_report = self.step

    def _evaluate(self) -> None:
        """Score the holdouts; the time it takes is not charged to the training rate."""
        with self._watch.paused():
            scores = self.score_holdouts(self.learner.model, self.learner.ranks.device)
        self.journal.note_holdouts(self.step, scores)
        if scores and not self.part.brief:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
            self.console.say(f"step {self.step}/{self.plan.steps}  bits per byte  {shown}")

    def _save(self) -> None:
        self.journal.flush()
        state = CheckpointState(
            tensors=self.learner.state_tensors(),
            step=self.step,
            next_sample=self.step * self.plan.sequences,
            meta={
                "identity": asdict(self.learner.identity),
                "fingerprint": self.learner.identity.fingerprint,
                "seconds": self._seconds,
            },
        )
        self.checkpointer.save(state)

    def _stop_when_asked(self) -> None:
        self.checkpointer.wait()
        self.journal.event("interrupted", f"asked to stop; saved at step {self.step}", step=self.step)
        self.journal.finish("interrupted")
        raise Interrupted(
            f"stopped as asked; step {self.step}/{self.plan.steps} is saved. Run the same command again to go on"
        )

    def _stop_not_finite(self, batch: Batch, nats: float, grad_norm: float) -> None:
        """The update is already applied, but a checkpoint is only ever made of a step that was finite."""
        with suppress(TenfoldError):  # that the last save failed too must not hide this
            self.checkpointer.wait()
        found = self.checkpointer.latest().checkpoint
        last_good = found.path if found else "none yet"
        first, last = batch.first_sample, batch.first_sample + self.plan.sequences - 1
        message = (
            f"step {batch.step + 1}: loss {nats}, gradient norm {grad_norm}: not finite. The batch is samples "
            f"{first}–{last}; last good checkpoint: {last_good}. Lower train.optimizer.learning_rate, or look at these "
            "samples"
        )
        raise NotFinite(message)

    def _warn(self, kind: str, message: str) -> None:
        self.console.say(f"warning: {message}")
        self.journal.event(kind, message)

    def _headline(self) -> str:
        plan, ranks = self.plan, self.learner.ranks
        dtype = str(plan.compute_dtype).removeprefix("torch.")
        left = (plan.steps - self.step) * plan.tokens_per_step
        return (
            f"training {plan.parameters:,} parameters on {left:,} tokens: {plan.steps} steps of "
            f"{plan.tokens_per_step:,} tokens, {ranks.world_size} × {ranks.device.type}, {plan.threads} threads, "
            f"{dtype}{', compiled' if plan.compiled else ''}"
        )
