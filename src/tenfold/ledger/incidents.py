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


INCIDENT_PAYLOADS: dict[IncidentKind, type[IncidentPayload]] = {
    each.kind: each for each in (RunFailed, RunKilled, LossNotFinite, ObserverFailed)
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
