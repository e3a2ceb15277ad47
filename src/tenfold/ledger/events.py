"""What can happen in a run: every kind of event the ledger knows, with what it carries.

A payload class is one kind. Its fields are the keys of the row's data; a field that is None is left out of the row, so
that rows of older versions, which lack a field, read as that field being None. Names of kinds and keys are on disk in
every ledger: they are added to, never changed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Self


class EventKind(StrEnum):
    """Kinds of events, as they are on disk."""

    RESUMED = "resumed"
    INTERRUPTED = "interrupted"
    DAMAGED_CHECKPOINT = "damaged-checkpoint"
    RESUME_NOT_EXACT = "resume-not-exact"
    LEFT_THE_BAND = "left-the-band"
    TRANSFER = "transfer"
    HOLDOUT_TURNED = "holdout-turned"
    LIFE_CHANGED = "life-changed"
    REWOUND = "rewound"
    REWIND_REFUSED = "rewind-refused"
    ACTION = "action"
    STARTED = "started"
    SERVING = "serving"
    JOINED = "joined"
    HEALED = "healed"
    LEFT = "left"
    STALLED = "stalled"
    ENDED = "sealed"
    ABANDONED = "abandoned"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    MERGE_FAILED = "merge-failed"
    FINISHED = "finished"
    DIED = "died"
    GIVEN_UP = "given-up"
    NOBODY_TRAINS = "nobody-trains"
    FILES_SHORT = "files-short"
    BAD_ORDER = "bad-order"
    CHAOS = "chaos"
    CHAOS_OVER = "chaos-over"
    CHAOS_SKIPPED = "chaos-skipped"


class EndCause(StrEnum):
    """Why an incarnation of a learner ended."""

    STALLED = "stalled"
    """It made no progress for longer than it may."""
    REPLACED = "replaced"
    """Another process joined under its name."""
    REJOINED = "rejoined"
    """Its own process began anew."""
    QUARANTINED = "quarantined"
    """It sent something that was kept out of the merge."""
    DIVERGED = "diverged"
    """It found its loss or weights not finite."""
    LEFT = "left"
    """It was asked to go."""
    FINISHED = "finished"
    """All samples are trained."""


@dataclass(frozen=True)
class Payload:
    """What a row carries besides its time and its sentence for people."""

    def to_dict(self) -> dict[str, Any]:
        """Keys and JSON values; fields that are None are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_dict`, keys that this version does not know left out. Raises TypeError when one is missing."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True)
class EventPayload(Payload):
    """What an event of one kind carries."""

    kind: ClassVar[EventKind]


# One run


@dataclass(frozen=True)
class RunResumed(EventPayload):
    """Training went on from a checkpoint after `step` steps."""

    kind = EventKind.RESUMED
    step: int


@dataclass(frozen=True)
class RunInterrupted(EventPayload):
    """Training was asked to stop and saved after `step` steps."""

    kind = EventKind.INTERRUPTED
    step: int


@dataclass(frozen=True)
class CheckpointDamaged(EventPayload):
    """A checkpoint could not be used; it was skipped and kept under another name."""

    kind = EventKind.DAMAGED_CHECKPOINT
    path: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ResumeNotExact(EventPayload):
    """Code or numerics changed since the checkpoint: training goes on, but not bit for bit."""

    kind = EventKind.RESUME_NOT_EXACT
    change: str | None = None


@dataclass(frozen=True)
class BandLeft(EventPayload):
    """The training loss left the interval that was forecast for it, or came back."""

    kind = EventKind.LEFT_THE_BAND
    step: int | None = None


@dataclass(frozen=True)
class LifeChanged(EventPayload):
    """The run went on, and machine, libraries, environment or settings differ: [before, now] under each name."""

    kind = EventKind.LIFE_CHANGED
    step: int
    changes: dict[str, list[str | None]]


@dataclass(frozen=True)
class RunRewound(EventPayload):
    """After `step` steps the run went back to its checkpoint `to_step`; batches from the first to the last are left
    out of the training order from there on."""

    kind = EventKind.REWOUND
    step: int
    to_step: int
    first_batch: int
    last_batch: int


@dataclass(frozen=True)
class RewindRefused(EventPayload):
    """The run was asked to go back to before `first_step` after `step` steps, and did not: there was no checkpoint from
    before it, or no step came any more. It went on.
    """

    kind = EventKind.REWIND_REFUSED
    step: int
    first_step: int


@dataclass(frozen=True)
class ActionTaken(EventPayload):
    """The configuration allowed to do something about an incident, and it was done; `error`: it could not be."""

    kind = EventKind.ACTION
    action: str
    incident: str
    step: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class TransferChecked(EventPayload):
    """The learning rate of the small runs was tried against its neighbours: whether it `holds`, None if unknown."""

    kind = EventKind.TRANSFER
    holds: bool | None = None


@dataclass(frozen=True)
class HoldoutTurned(EventPayload):
    """A holdout's bits per byte rose at `step`, after they were `lowest` at `lowest_step`."""

    kind = EventKind.HOLDOUT_TURNED
    step: int
    holdout: str
    bits_per_byte: float
    lowest_step: int
    lowest: float


# Several learners and a syncer. A `life` is the number of one incarnation of a learner in the merge log.


@dataclass(frozen=True)
class SessionStarted(EventPayload):
    """A command began, or went on with, a run of several learners."""

    kind = EventKind.STARTED


@dataclass(frozen=True)
class SyncerServing(EventPayload):
    """A process of the syncer listens; `shard` is its number, None for the first."""

    kind = EventKind.SERVING
    shard: int | None = None


@dataclass(frozen=True)
class LearnerJoined(EventPayload):
    """A learner joined the run."""

    kind = EventKind.JOINED
    life: int
    name: str | None = None
    """The learner's; older rows have it in their sentence alone."""


@dataclass(frozen=True)
class LearnerHealed(EventPayload):
    """A learner has its state and trains. `seconds` it took to get it; `source`: initial, peer or checkpoint."""

    kind = EventKind.HEALED
    life: int
    seconds: float | None = None
    source: str | None = None


@dataclass(frozen=True)
class LearnerLeft(EventPayload):
    """A learner left as it was asked to."""

    kind = EventKind.LEFT
    life: int


@dataclass(frozen=True)
class LearnerStalled(EventPayload):
    """A learner made no progress for longer than it may, and was given up. `seconds`: since its last progress."""

    kind = EventKind.STALLED
    life: int
    seconds: float | None = None


@dataclass(frozen=True)
class LearnerEnded(EventPayload):
    """Nothing more of an incarnation is accepted: `steps` of it count, `unsent_steps` are trained again.

    `longest_gap`: seconds between two of its steps. `steps_missing_in_fragments`: fragment → steps that count and whose
    pseudo-gradient of that fragment never came. `cause`: one of EndCause; None in rows of older versions.
    """

    kind = EventKind.ENDED
    life: int
    steps: int
    unsent_steps: int
    longest_gap: float
    steps_missing_in_fragments: dict[str, int]
    cause: str | None = None


@dataclass(frozen=True)
class WorkAbandoned(EventPayload):
    """A learner that joined again said how many steps of its incarnation before do not count."""

    kind = EventKind.ABANDONED
    life: int
    steps: int


@dataclass(frozen=True)
class LearnerQuarantined(EventPayload):
    """A contribution of a learner was kept out of the merge, for the `strikes`th time in a row."""

    kind = EventKind.QUARANTINED
    life: int
    strikes: int


@dataclass(frozen=True)
class RequestRefused(EventPayload):
    """The syncer refused what came in on its port; `times`: how often since the row before, where more than once."""

    kind = EventKind.REFUSED
    times: int | None = None


@dataclass(frozen=True)
class NobodyTrains(EventPayload):
    """Samples are left and no learner has been there for so many seconds."""

    kind = EventKind.NOBODY_TRAINS
    seconds: float
    samples: int


@dataclass(frozen=True)
class FilesShort(EventPayload):
    """The syncer is close to the most files and connections that it may have open."""

    kind = EventKind.FILES_SHORT
    files: int
    limit: int


@dataclass(frozen=True)
class MergeFailed(EventPayload):
    """A fragment could not be merged (a full disk, say); it is tried again."""

    kind = EventKind.MERGE_FAILED
    fragment: int | None = None


@dataclass(frozen=True)
class AllTrained(EventPayload):
    """Every sample of the run is trained. `longest_gaps`: learner → seconds between two of its steps."""

    kind = EventKind.FINISHED
    longest_gaps: dict[str, float]


@dataclass(frozen=True)
class ProcessDied(EventPayload):
    """A process of the run ended by itself and is started again. `learner`: its name, also where it is a syncer."""

    kind = EventKind.DIED
    learner: str
    how: str | None = None
    """Its status or signal: `status 3`, `SIGKILL`."""


@dataclass(frozen=True)
class ProcessGivenUp(EventPayload):
    """A process died too often and is not started again."""

    kind = EventKind.GIVEN_UP
    learner: str


@dataclass(frozen=True)
class OrderRefused(EventPayload):
    """Somebody ordered something of a running supervisor that it could not obey."""

    kind = EventKind.BAD_ORDER


@dataclass(frozen=True)
class _Fault(EventPayload):
    """A fault injected on purpose: which, at which process, for how many seconds, how strong."""

    fault: str
    target: str
    seconds: float | None = None
    amount: float | None = None


@dataclass(frozen=True)
class FaultInjected(_Fault):
    """A fault began."""

    kind = EventKind.CHAOS


@dataclass(frozen=True)
class FaultOver(_Fault):
    """A lasting fault was undone."""

    kind = EventKind.CHAOS_OVER


@dataclass(frozen=True)
class FaultSkipped(_Fault):
    """A fault could not be injected."""

    kind = EventKind.CHAOS_SKIPPED


PAYLOADS: dict[EventKind, type[EventPayload]] = {
    each.kind: each
    for each in (
        RunResumed,
        RunInterrupted,
        CheckpointDamaged,
        ResumeNotExact,
        BandLeft,
        LifeChanged,
        RunRewound,
        RewindRefused,
        ActionTaken,
        TransferChecked,
        HoldoutTurned,
        SessionStarted,
        SyncerServing,
        LearnerJoined,
        LearnerHealed,
        LearnerLeft,
        LearnerStalled,
        LearnerEnded,
        WorkAbandoned,
        LearnerQuarantined,
        RequestRefused,
        MergeFailed,
        AllTrained,
        ProcessDied,
        ProcessGivenUp,
        NobodyTrains,
        FilesShort,
        OrderRefused,
        FaultInjected,
        FaultOver,
        FaultSkipped,
    )
}


@dataclass(frozen=True)
class Event:
    """Something that happened at one moment of a run. `kind` of a row may be one that this version does not know."""

    run_id: int | None
    at: float
    kind: str
    message: str
    data: dict[str, Any]
    id: int | None = None

    @property
    def payload(self) -> EventPayload | None:
        """What it carries, typed; None when the kind is unknown or a key is missing."""
        try:
            return PAYLOADS[EventKind(self.kind)].from_dict(self.data)
        except (ValueError, TypeError):
            return None
