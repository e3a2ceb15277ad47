"""What looked wrong in a run and wants an explanation: kinds, what they carry, state, evidence, verdict.

An incident is opened once for each cause: while it is open, the same cause again only updates it. It is closed with a
verdict.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar

from tenfold.ledger.events import Payload


class IncidentKind(StrEnum):
    """Kinds of incidents, as they are on disk."""

    FAILED = "failed"
    KILLED = "killed"
    NOT_FINITE = "not-finite"
    OBSERVER_FAILED = "observer-failed"
    LOSS_SPIKE = "loss-spike"
    DIVERGENCE = "divergence"
    GRADIENT_EXPLOSION = "gradient-explosion"
    UPDATE_EXPLOSION = "update-explosion"
    DEAD_BLOCK = "dead-block"
    SATURATED_BLOCK = "saturated-block"
    ATTENTION_GROWTH = "attention-growth"
    NUMERICS = "numerics"
    DATA_ANOMALY = "data-anomaly"
    REPLICAS_DISAGREE = "replicas-disagree"
    SILENT_CORRUPTION = "silent-corruption"
    HANG = "hang"
    STRAGGLER = "straggler"
    SLOWDOWN = "slowdown"
    MEMORY_LEAK = "memory-leak"
    FAILING_STORAGE = "failing-storage"
    FLAPPING_LEARNER = "flapping-learner"


class Remedy(StrEnum):
    """What to do about an incident, as a detector suggests it. Nothing is done unless it is allowed to."""

    WATCH = "watch"
    """Nothing yet: see whether it goes on."""
    REWIND_AND_SKIP = "rewind-and-skip"
    """Go back to the last good checkpoint and leave out the batches since."""
    REWIND = "rewind"
    """Go back to the last good checkpoint and train the same batches again."""
    LOWER_LEARNING_RATE = "lower-learning-rate"
    EXAMINE_DATA = "examine-data"
    """Look at the samples named."""
    EXECUTE_AGAIN = "execute-again"
    """Execute the step again, here and elsewhere: what agrees with what tells a defect from the learning itself."""
    PROBE_DEVICE = "probe-device"
    """Measure the device's correctness and speed, and take it out when it fails."""
    CHECK_INPUT = "check-input"
    """See what keeps the data, the link or the disk from being as fast as before."""
    QUARANTINE = "quarantine"
    """Keep the learner out until its machine is examined."""
    FREE_STORAGE = "free-storage"
    RESTART = "restart"
    """Save and start the process again."""


class Severity(StrEnum):
    """How bad it is: worth a look, harms the run, or ended it."""

    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class IncidentState(StrEnum):
    """Open, open and updated since, or closed."""

    OPEN = "open"
    UPDATED = "updated"
    CLOSED = "closed"


class EvidenceKind(StrEnum):
    """What a link of evidence points at."""

    METRIC = "metric"
    EVENT = "event"
    CHECKPOINT = "checkpoint"
    SAMPLES = "samples"
    FILE = "file"


@dataclass(frozen=True)
class Evidence:
    """A link to what speaks for or against an explanation.

    `where` by kind: a metric's name and steps (`train/loss 90–100`), an event's id, a checkpoint's or file's path, the
    numbers of the first and last sample (`640–703`).
    """

    kind: EvidenceKind
    where: str
    note: str = ""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Evidence":
        """From what the ledger keeps, which is JSON."""
        return cls(EvidenceKind(record["kind"]), record["where"], record.get("note", ""))


@dataclass(frozen=True)
class IncidentPayload(Payload):
    """What an incident of one kind carries."""

    kind: ClassVar[IncidentKind]
    severity: ClassVar[Severity]

    @property
    def cause(self) -> str:
        """Names what went wrong, so that the same again is the same incident of its run."""
        return self.kind.value


@dataclass(frozen=True)
class RunFailed(IncidentPayload):
    """The run ended with an error, which the sentence says."""

    kind = IncidentKind.FAILED
    severity = Severity.CRITICAL


@dataclass(frozen=True)
class RunKilled(IncidentPayload):
    """The run's process ended without a word, as by SIGKILL; found when it was begun again."""

    kind = IncidentKind.KILLED
    severity = Severity.WARNING


@dataclass(frozen=True)
class LossNotFinite(IncidentPayload):
    """The loss or gradient of `step` was not finite; the batch is samples `first_sample` to `last_sample`."""

    kind = IncidentKind.NOT_FINITE
    severity = Severity.CRITICAL
    step: int
    first_sample: int | None = None
    last_sample: int | None = None

    @property
    def cause(self) -> str:
        """One incident for each step at which it happens."""
        return f"{self.kind} {self.step}"


@dataclass(frozen=True)
class ObserverFailed(IncidentPayload):
    """An observer of the run raised an error and was taken out, on the first rank or on `rank`; training went on."""

    kind = IncidentKind.OBSERVER_FAILED
    severity = Severity.WARNING
    observer: str
    rank: int | None = None

    @property
    def cause(self) -> str:
        """One incident for each observer, on whatever ranks it fails."""
        return f"{self.kind} {self.observer}"


@dataclass(frozen=True)
class SignalIncident(IncidentPayload):
    """What a detector saw.

    `step`: the first that looked wrong; `signal`: the metric; its `value` there, and what was `expected`. `block`,
    `learner`: the place, where it has one. The batch is samples `first_sample` to `last_sample`. `action` is one of
    Remedy.
    """

    step: int
    signal: str
    value: float | None = None
    expected: float | None = None
    block: str | None = None
    learner: str | None = None
    first_sample: int | None = None
    last_sample: int | None = None
    action: str = Remedy.WATCH

    @property
    def cause(self) -> str:
        """One incident for each kind and place."""
        return " ".join(part for part in (self.kind, self.block, self.learner) if part)


@dataclass(frozen=True)
class LossSpiked(SignalIncident):
    """The training loss jumped; the verdict says whether it came back to its plateau."""

    kind = IncidentKind.LOSS_SPIKE
    severity = Severity.WARNING
    action: str = Remedy.REWIND_AND_SKIP


@dataclass(frozen=True)
class RunDiverges(SignalIncident):
    """The training loss drifts up, from its registered forecast or, without one, from its own trend."""

    kind = IncidentKind.DIVERGENCE
    severity = Severity.CRITICAL
    action: str = Remedy.LOWER_LEARNING_RATE


@dataclass(frozen=True)
class GradientExploded(SignalIncident):
    """The gradient's norm, of all or of one block, is far above what it was."""

    kind = IncidentKind.GRADIENT_EXPLOSION
    severity = Severity.WARNING
    action: str = Remedy.EXECUTE_AGAIN


@dataclass(frozen=True)
class UpdateExploded(SignalIncident):
    """What a step added to the weights, all or those of one block, is far above what it was."""

    kind = IncidentKind.UPDATE_EXPLOSION
    severity = Severity.WARNING
    action: str = Remedy.REWIND


@dataclass(frozen=True)
class BlockDead(SignalIncident):
    """Activations, gradient or update of a block fell to a small part of what they were."""

    kind = IncidentKind.DEAD_BLOCK
    severity = Severity.CRITICAL
    action: str = Remedy.EXECUTE_AGAIN


@dataclass(frozen=True)
class BlockSaturated(SignalIncident):
    """Activations after a block grew far above what they were."""

    kind = IncidentKind.SATURATED_BLOCK
    severity = Severity.WARNING
    action: str = Remedy.EXECUTE_AGAIN


@dataclass(frozen=True)
class AttentionGrew(SignalIncident):
    """The largest attention logit of a block grows and grows."""

    kind = IncidentKind.ATTENTION_GROWTH
    severity = Severity.WARNING
    action: str = Remedy.LOWER_LEARNING_RATE


@dataclass(frozen=True)
class NumericsWorse(SignalIncident):
    """Elements that are not finite, or more elements that underflow or saturate than before."""

    kind = IncidentKind.NUMERICS
    severity = Severity.WARNING
    action: str = Remedy.EXECUTE_AGAIN


@dataclass(frozen=True)
class DataAnomalous(SignalIncident):
    """The batches are not what they were: repetition, odd characters, novelty, lengths, shares; or not what the index
    says.
    """

    kind = IncidentKind.DATA_ANOMALY
    severity = Severity.WARNING
    action: str = Remedy.EXAMINE_DATA


@dataclass(frozen=True)
class ReplicasDisagree(SignalIncident):
    """Replicas that must be equal have different digests; `learner` is the one that stands alone, if one does."""

    kind = IncidentKind.REPLICAS_DISAGREE
    severity = Severity.CRITICAL
    action: str = Remedy.EXECUTE_AGAIN


@dataclass(frozen=True)
class SilentCorruption(SignalIncident):
    """A probe gave a wrong result, a digest does not match, or a device counts new errors of its memory."""

    kind = IncidentKind.SILENT_CORRUPTION
    severity = Severity.CRITICAL
    action: str = Remedy.PROBE_DEVICE


@dataclass(frozen=True)
class RunHangs(SignalIncident):
    """No step for longer than the steps before allow."""

    kind = IncidentKind.HANG
    severity = Severity.CRITICAL
    action: str = Remedy.RESTART


@dataclass(frozen=True)
class PartStraggles(SignalIncident):
    """One part of the step, or the link of one learner, takes much longer than before."""

    kind = IncidentKind.STRAGGLER
    severity = Severity.WARNING
    action: str = Remedy.CHECK_INPUT


@dataclass(frozen=True)
class StepsSlower(SignalIncident):
    """Steps take longer than before, and stay so."""

    kind = IncidentKind.SLOWDOWN
    severity = Severity.WARNING
    action: str = Remedy.PROBE_DEVICE


@dataclass(frozen=True)
class MemoryLeaks(SignalIncident):
    """The memory of the process grows and grows."""

    kind = IncidentKind.MEMORY_LEAK
    severity = Severity.WARNING
    action: str = Remedy.RESTART


@dataclass(frozen=True)
class StorageFails(SignalIncident):
    """The disk is about to be full, or writing a checkpoint takes far longer than before."""

    kind = IncidentKind.FAILING_STORAGE
    severity = Severity.CRITICAL
    action: str = Remedy.FREE_STORAGE


@dataclass(frozen=True)
class LearnerFlaps(SignalIncident):
    """A learner ends again and again, more than its share: a lemon."""

    kind = IncidentKind.FLAPPING_LEARNER
    severity = Severity.WARNING
    action: str = Remedy.QUARANTINE


@dataclass(frozen=True)
class IncidentClosed:
    """Word that what an incident was opened for is over: `cause` is the incident's, `verdict` what it was."""

    cause: str
    verdict: str


INCIDENT_PAYLOADS: dict[IncidentKind, type[IncidentPayload]] = {
    each.kind: each
    for each in (
        RunFailed,
        RunKilled,
        LossNotFinite,
        ObserverFailed,
        LossSpiked,
        RunDiverges,
        GradientExploded,
        UpdateExploded,
        BlockDead,
        BlockSaturated,
        AttentionGrew,
        NumericsWorse,
        DataAnomalous,
        ReplicasDisagree,
        SilentCorruption,
        RunHangs,
        PartStraggles,
        StepsSlower,
        MemoryLeaks,
        StorageFails,
        LearnerFlaps,
    )
}


@dataclass(frozen=True)
class Incident:
    """One incident. Times are seconds since the epoch; `kind` may be one that this version does not know."""

    id: int
    run_id: int | None
    kind: str
    severity: Severity
    state: IncidentState
    cause: str | None
    message: str
    data: dict[str, Any]
    evidence: tuple[Evidence, ...]
    verdict: str | None
    opened_at: float
    updated_at: float
    closed_at: float | None

    @property
    def payload(self) -> IncidentPayload | None:
        """What it carries, typed; None when the kind is unknown or a key is missing."""
        try:
            return INCIDENT_PAYLOADS[IncidentKind(self.kind)].from_dict(self.data)
        except (ValueError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
