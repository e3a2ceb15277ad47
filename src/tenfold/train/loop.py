"""The loop around the step: resume, step, tell observers, save, stop when asked."""

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from tenfold.core import Interrupted, NotFinite, StopRequest, TenfoldError, stop_on_signal
from tenfold.ledger import (
    CheckpointDamaged,
    IncidentPayload,
    LossNotFinite,
    ObserverFailed,
    ReplicasDisagree,
    ResumeNotExact,
    RewindRefused,
    RunFailed,
    RunRewound,
)
from tenfold.train.batching import batch_number, batches
from tenfold.train.checkpoint import Checkpoint, Checkpointer, CheckpointState, weights_digest
from tenfold.train.identity import check_resumable, owner_of
from tenfold.train.learner import Learner
from tenfold.train.observe import LoopRequest, Notice, Observer, Observers, Stopping
from tenfold.train.step import StepMeasure, execute


@dataclass(frozen=True)
class Part:
    """Which part of a run to train, for runs that branch off others. Default: the whole of it."""

    first_step: int = 0
    """The learner comes with the state after this many steps."""
    save_at: frozenset[int] = frozenset()
    """Steps after which to save besides the usual ones."""


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


class Loop:
    """State of one run while it goes on. Raises ValueError when two observers have the same name."""

    def __init__(
        self, learner: Learner, checkpointer: Checkpointer, observers: Iterable[Observer], part: Part = WHOLE
    ) -> None:
        self.learner, self.plan = learner, learner.plan
        self.checkpointer, self.observers, self.part = checkpointer, Observers(observers), part
        self.step = part.first_step
        self.skipped: list[int] = []
        """Batches of the training order that are left out, in order."""
        self._failure: IncidentPayload = RunFailed()
        """What it would be if the run failed now."""
        self._disagree_since: dict[str, int] = {}
        """The first checkpoint at which a figure was not the same on all ranks."""
        self._on_its_way: int | None = None
        """The step whose checkpoint is being written."""
        self._began, self._seconds_before = time.monotonic(), 0.0

    def run(self) -> TrainResult:
        """Train to the end. Raises Interrupted on SIGINT or SIGTERM, NotFinite when the loss is not finite."""
        try:
            return self._run()
        except Interrupted:
            raise
        except Exception as error:
            message = str(error) if isinstance(error, TenfoldError) else f"{type(error).__name__}: {error}"
            with suppress(Exception):  # whatever else goes wrong must not hide this
                self.observers.stopping(Stopping("failed", self.step, message, self._failure))
            self._say_failures()
            raise

    def _run(self) -> TrainResult:
        self.checkpointer.prepare(owner_of(self.learner.campaign))
        self.resume()
        self.observers.started(self.step)
        with stop_on_signal() as stop:
            while measure := self._steps(stop):
                if measure.request.back_to:
                    self._go_back(measure)
            self._say_what_came_too_late()
        self._wait_for_save()
        self._tell_failures()
        weights = {n: t for n, t in self.learner.state_tensors().items() if n.startswith("model/")}
        digest = weights_digest(weights)
        self.observers.stopping(Stopping("done", self.step))
        self._say_failures()
        return TrainResult(
            steps=self.plan.steps,
            tokens=self.plan.steps * self.plan.tokens_per_step,
            parameters=self.plan.parameters,
            weights_digest=digest,
            fingerprint=self.learner.identity.fingerprint,
            seconds=self._seconds,
        )

    @property
    def _seconds(self) -> float:
        """Time spent on this run so far, that of the processes before this one up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._began

    def resume(self) -> None:
        """Go back to the newest checkpoint that is whole, if there is one."""
        found = self.checkpointer.latest()
        for damaged in found.damaged:
            aside = self.checkpointer.set_aside(damaged)
            what = CheckpointDamaged(damaged.path, damaged.reason)
            message = f"{damaged.path}: {damaged.reason}; skipped, and kept as {aside}"
            self.observers.noticed(Notice(what, message))
        if found.checkpoint is None:
            return
        meta = found.checkpoint.meta
        for warning in check_resumable(meta["identity"], self.learner.identity, found.checkpoint.path):
            message = f"{warning}: the run goes on, but not bit for bit"
            self.observers.noticed(Notice(ResumeNotExact(warning), message))
        self._seconds_before = meta["seconds"]
        self.skipped = list(meta.get("skipped", []))
        self._take_up(found.checkpoint)

    def _take_up(self, checkpoint: Checkpoint) -> None:
        """Load a checkpoint and tell the observers."""
        self.checkpointer.load(checkpoint, self.learner.state_tensors())
        self.step = checkpoint.manifest.step
        self.observers.load_state_dict(checkpoint.meta.get("observers", {}))
        self.observers.resumed(self.step, checkpoint)

    def _go_back(self, measure: StepMeasure) -> None:
        """Take up the newest checkpoint from before a step, and leave out the batches from there to now, or beyond.

        All ranks do. What was saved since is of a way that is given up, and deleted.
        """
        first, last = measure.request.back_to, measure.step
        self._wait_for_save()
        self._tell_failures()
        if measure.request.stop:
            self.observers.ask(LoopRequest(stop=True))  # served after the next step
        found = self.checkpointer.latest(before=first).checkpoint
        if found is None:
            said = f"no checkpoint from before step {first} is there to go back to; the run goes on. Lower "
            self.observers.noticed(Notice(RewindRefused(last, first), f"{said}checkpoint.every or keep more of them"))
            if not measure.is_finite:
                self._stop_not_finite(measure)
            self._save_when_due(measure)
            return
        left_out = [batch_number(step, self.skipped) for step in range(first - 1, last + measure.request.beyond)]
        self.skipped = sorted({*self.skipped, *left_out})
        self._take_up(found)
        self.checkpointer.forget_after(self.step)
        what = RunRewound(last, self.step, left_out[0], left_out[-1])
        samples = f"{left_out[0] * self.plan.sequences}–{(left_out[-1] + 1) * self.plan.sequences - 1}"
        message = f"went back from step {last} to {self.step}; samples {samples} are left out from now on"
        self.observers.noticed(Notice(what, message))
        self.observers.started(self.step)

    def _steps(self, stop: StopRequest) -> StepMeasure | None:
        """Train to the end, or until the batches are others from here on: the step after which they are."""
        plan = self.plan
        for batch in batches(
            self.learner.stream,
            self.learner.ranks,
            first_step=self.step,
            steps=plan.steps,
            sequences=plan.sequences,
            micro_batch=plan.micro_batch,
            skipped=self.skipped,
        ):
            request = self.observers.take_request()
            request = replace(request, stop=request.stop or stop.is_set)
            measure = execute(self.learner, batch, self.observers, request=request)
            if measure.is_finite:
                self.step = measure.step
            if measure.request.back_to:
                return measure
            if not measure.is_finite:
                if not self._may_leave_out(measure):
                    self._stop_not_finite(measure)
                return measure
            self._save_when_due(measure)
        return None

    def _say_what_came_too_late(self) -> None:
        """A request of the last step: no further step carries it to the other ranks."""
        if first := self.observers.take_request().back_to:
            said = f"asked to go back to before step {first} after the last step: nothing is done"
            self.observers.noticed(Notice(RewindRefused(self.step, first), said))

    def _save_when_due(self, measure: StepMeasure) -> None:
        stopping = measure.request.stop and not measure.is_last
        asked = self.observers.take_save_request() or measure.request.save
        due = asked or self.step % self.learner.campaign.checkpoint.every == 0 or self.step in self.part.save_at
        if measure.is_last or stopping or due:
            self._save()
        elif self._on_its_way is not None and self.checkpointer.has_saved:
            self._tell_saved()
        if stopping:
            self._stop_when_asked()

    def _save(self) -> None:
        self._wait_for_save()
        self.observers.saving(self.step)
        self._tell_failures()
        self._compare_ranks()
        state = CheckpointState(
            tensors=self.learner.state_tensors(),
            step=self.step,
            next_sample=batch_number(self.step, self.skipped) * self.plan.sequences,
            meta={
                "identity": asdict(self.learner.identity),
                "fingerprint": self.learner.identity.fingerprint,
                "seconds": self._seconds,
                "observers": self.observers.state_dict(),
                **({"skipped": self.skipped} if self.skipped else {}),
            },
        )
        self.checkpointer.save(state)
        self._on_its_way = self.step

    def _wait_for_save(self) -> None:
        """Return when the last save is on disk. Raises TenfoldError when it failed."""
        self.checkpointer.wait()
        self._tell_saved()

    def _tell_saved(self) -> None:
        if self._on_its_way is not None:
            self.observers.saved(self._on_its_way)
        self._on_its_way = None

    def _tell_failures(self) -> None:
        """Let the first rank, which has ledger and console, report the observers that failed on others."""
        for rank, failures in enumerate(self.learner.ranks.gathered(self.observers.take_failures())):
            for failure in failures if rank and self.learner.ranks.is_first else ():
                assert isinstance(failure.what, ObserverFailed)
                notice = Notice(replace(failure.what, rank=rank), f"rank {rank}: {failure.message}")
                self.observers.noticed(notice)

    def _compare_ranks(self) -> None:
        """Report what must be the same on every rank and is not; only the first rank has whom to tell."""
        if self.learner.ranks.world_size == 1:
            return
        each = self.learner.ranks.gathered(self.observers.agreeing())
        for name in each[0] if self.learner.ranks.is_first else ():
            values = [figures.get(name) for figures in each]
            usual = max(values, key=values.count)
            odd = [str(rank) for rank, value in enumerate(values) if value != usual]
            if odd:
                who = f"rank {', '.join(odd)}" if 2 * len(odd) < len(values) else "no majority"
                what = ReplicasDisagree(self._disagree_since.setdefault(name, self.step), name, learner=who)
                message = f"step {self.step}: {name} is not the same on all ranks ({who} differs from the others)"
                self.observers.noticed(Notice(what, message))

    def _say_failures(self) -> None:
        """What other ranks can no longer be told, since the run ends: a line of this rank's own."""
        for failure in () if self.learner.ranks.is_first else self.observers.take_failures():
            print(f"warning: rank {self.learner.ranks.rank}: {failure.message}", file=sys.stderr, flush=True)

    def _stop_when_asked(self) -> None:
        self._wait_for_save()
        self._tell_failures()
        self.observers.stopping(Stopping("interrupted", self.step, f"asked to stop; saved at step {self.step}"))
        raise Interrupted(
            f"stopped as asked; step {self.step}/{self.plan.steps} is saved. Run the same command again to go on"
        )

    def _may_leave_out(self, measure: StepMeasure) -> bool:
        """Whether an observer asks to go back when it is told that a step was not finite.

        Such a step has changed nothing, so it is enough to leave its batch out.
        """
        self._tell_failures()
        first, last = measure.first_sample, measure.first_sample + measure.samples - 1
        what = LossNotFinite(measure.step, first, last)
        message = f"step {measure.step}: loss {measure.nats}, gradient norm {measure.grad_norm}: not finite"
        self.observers.noticed(Notice(what, message))
        mine = self.observers.take_request()
        if mine.stop or measure.request.stop:
            self.observers.ask(LoopRequest(stop=True))  # served after the next step
        if not any(self.learner.ranks.gathered(mine.back_to)):
            return False
        batch = batch_number(measure.step - 1, self.skipped)
        self.skipped = sorted([*self.skipped, batch])
        said = f"samples {first}–{last} are left out from now on; the weights are those of step {self.step}"
        self.observers.noticed(Notice(RunRewound(measure.step, self.step, batch, batch), said))
        return True

    def _stop_not_finite(self, measure: StepMeasure) -> None:
        """The step has changed nothing, so the weights are those of the step before."""
        with suppress(TenfoldError):  # that the last save failed too must not hide this
            self._wait_for_save()
        self._tell_failures()
        found = self.checkpointer.latest().checkpoint
        last_good = found.path if found else "none yet"
        first, last = measure.first_sample, measure.first_sample + measure.samples - 1
        message = (
            f"step {measure.step}: loss {measure.nats}, gradient norm {measure.grad_norm}: not finite. The batch is "
            f"samples {first}–{last}; last good checkpoint: {last_good}. Lower train.optimizer.learning_rate, or look "
            f"at these samples with `tenfold data show {first}-{last}`"
        )
        self._failure = LossNotFinite(measure.step, first, last)
        raise NotFinite(message)
