"""Metrics of a run on their way to the ledger: written in batches, always before the checkpoint they lead to."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from tenfold.core import CampaignFiles
from tenfold.ledger import (
    BITS_PER_BYTE,
    GRAD_NORM,
    LEARNING_RATE,
    LOSS,
    EventPayload,
    Evidence,
    IncidentClosed,
    IncidentPayload,
    Ledger,
    RunInterrupted,
    RunResumed,
    holdout_metric,
)
from tenfold.train.checkpoint import Checkpoint
from tenfold.train.learner import Learner
from tenfold.train.observe import Notice, Observer, Stopping
from tenfold.train.step import StepMeasure


class Journal(Observer):
    """Collects metrics by step; only the first rank has a ledger to write to."""

    name = "journal"
    essential = True  # what a run cannot account for is not worth its compute, and the ladder reads its results here

    def __init__(
        self,
        ledger: Ledger | None,
        fingerprint: str,
        description: Mapping[str, Any],
        kind: str = "train",
        flush_every: int = 1,
    ) -> None:
        """`flush_every`: steps written together."""
        self._ledger, self._flush_every = ledger, flush_every
        if ledger:
            ledger.close_killed(kind, fingerprint)
        self.run_id = ledger.start_run(kind, fingerprint, description) if ledger else None
        self._waiting: dict[int, dict[str, float]] = {}

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep metrics of `step`, by their names in the ledger."""
        self._waiting.setdefault(step, {}).update(metrics)

    def note_holdouts(self, step: int, bits_per_byte: Mapping[str, float]) -> None:
        """Keep bits per byte of each holdout at `step`."""
        self.note(step, {holdout_metric(name): value for name, value in bits_per_byte.items()})

    def report(
        self,
        what: EventPayload | IncidentPayload | IncidentClosed,
        message: str,
        evidence: Sequence[Evidence] = (),
    ) -> None:
        """Write at once that something happened, is wrong and wants an explanation, or is over."""
        if self._ledger is None:
            return
        if isinstance(what, IncidentPayload):
            self._ledger.open_incident(what, message, run_id=self.run_id, evidence=evidence)
        elif isinstance(what, IncidentClosed):
            self._ledger.close_cause(what, run_id=self.run_id)
        else:
            self._ledger.event(what, message, run_id=self.run_id)

    def recorded(self, name: str, up_to_step: int) -> list[tuple[int, float]]:
        """(step, value) of a metric, as far as it is written already."""
        if self._ledger is None or self.run_id is None:
            return []
        return [(step, value) for step, value in self._ledger.metric(self.run_id, name) if step <= up_to_step]

    def flush(self) -> None:
        """Write what is waiting. A resumed run repeats steps after the last checkpoint and replaces theirs."""
        if self._ledger and self.run_id is not None and self._waiting:
            self._ledger.log(self.run_id, self._waiting)
        self._waiting.clear()

    def resumed(self, step: int, checkpoint: Checkpoint) -> None:
        """Take over the metrics up to `step` of the run that saved the checkpoint, if it is another one."""
        if self._ledger and self.run_id is not None:
            self._ledger.inherit_metrics(self.run_id, checkpoint.meta["fingerprint"], step)
        self.report(RunResumed(step), f"resumed at step {step}")

    def after_step(self, measure: StepMeasure) -> None:
        figures = {
            LOSS: measure.nats,
            BITS_PER_BYTE: measure.bits_per_byte,
            GRAD_NORM: measure.grad_norm,
            LEARNING_RATE: measure.learning_rate,
        }
        self.note(measure.step, figures)
        if measure.is_last or measure.step % self._flush_every == 0:
            self.flush()

    def saving(self, step: int) -> None:
        self.flush()

    def noticed(self, notice: Notice) -> None:
        self.report(notice.what, notice.message, notice.evidence)

    def stopping(self, stopping: Stopping) -> None:
        if stopping.status == "interrupted":
            self.report(RunInterrupted(stopping.step), stopping.message)
        if stopping.incident:
            self.report(stopping.incident, stopping.message)
        self.flush()
        if self._ledger and self.run_id is not None:
            self._ledger.finish_run(self.run_id, stopping.status)


@contextmanager
def journal_of(learner: Learner, files: CampaignFiles, kind: str = "train") -> Iterator[Journal]:
    """The run's way into the ledger; ranks other than the first have none."""
    description = learner.identity.describe(learner.campaign.name)
    every = learner.campaign.train.log_every
    if not learner.ranks.is_first:
        yield Journal(None, learner.identity.fingerprint, description, kind, every)
        return
    with closing(Ledger(files.ledger)) as ledger:
        yield Journal(ledger, learner.identity.fingerprint, description, kind, every)
