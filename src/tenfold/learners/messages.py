"""What learners and syncer say to each other, and the syncer's processes among themselves: one model for each message.

A message is a JSON object of bounded size. Whoever takes one checks it with `parse`: a field that is missing, unknown
or out of its bounds is refused with one line. What is on disk as well (the merge log, checkpoints of inner states)
keeps the names that it had in the first version: there an incarnation is a `life`.
"""

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from tenfold.core import TenfoldError
from tenfold.learners.fields import (
    LARGEST,
    Address,
    Count,
    Digest,
    Figure,
    Index,
    LearnerName,
    Text,
    Whole,
)
from tenfold.ledger import EndCause

MESSAGES_VERSION = 3  # raised with every change below; a process of another version is refused at its first call
LOSSES_AT_A_TIME = 4096  # inner steps that one heartbeat tells of; what is left is told by the next
LONGEST_HISTORY = 2**18
MOST_FRAGMENTS = 65_536
MOST_RANKS = 65_536


class Refused(TenfoldError):
    """The other side said no, with its reason. Asking again is no use."""


class NotAdmitted(Refused):
    """The other side does not know the token, or is another version of tenfold."""

    exit_code = 2


class Unreachable(TenfoldError):
    """The other side could not be reached, or could not do it, for as long as there was patience."""


class Message(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """As it goes over the wire and lies on disk."""
        return self.model_dump(mode="json", by_alias=True)


class Request(Message):
    """A message that is answered."""

    method: ClassVar[str]


class Done(Message):
    """The answer where there is nothing to say."""


M = TypeVar("M", bound=Message)


def parse(kind: type[M], value: Any, what: str) -> M:
    """A message from its JSON object. Raises Refused, naming the first field that is not as it should be."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise Refused(f"{what[:40]}: malformed message ({said_of(error)})") from None


def said_of(error: ValidationError) -> str:
    """The first thing that is wrong with a message: field, reason and the value as far as it fits a line."""
    first = error.errors(include_url=False)[0]
    named = ".".join(str(part) for part in first["loc"])[:80]
    where = (named if named.isprintable() else ascii(named)) or "the whole"
    given = "" if first["type"] == "missing" else f", not {str(first['input'])[:40]!r}"
    return f"{where}: {first['msg'][:160]}{given}"


# The record of an incarnation


EndState = Literal["evicted", "left", "finished"]
IncarnationState = Literal["joining", "active", "evicting", "leaving", "evicted", "left", "finished"]
"""evicted: given up by the syncer, or replaced by a newer one of its learner; evicting: that is decided, not done."""


@dataclass(frozen=True, order=True)
class Merged:
    """A learner merged a version of a fragment before its step number `step` (counted from 0 in its incarnation)."""

    step: int
    fragment: int
    version: int


@dataclass(frozen=True, order=True)
class Contributed:
    """A learner cut off its contribution number `sequence` to a fragment at base `version`, after `step` steps."""

    step: int
    fragment: int
    version: int
    sequence: int


def history_to_json(history: Iterable[Merged | Contributed]) -> list[list[int]]:
    """[step, fragment, version] of a merge, [step, fragment, version, sequence] of a contribution."""
    return [list(astuple(entry)) for entry in history]


def history_from(value: Any) -> tuple[Merged | Contributed, ...]:
    """A history from its JSON form. Raises ValueError when it is something else."""
    if isinstance(value, tuple) and all(isinstance(entry, Merged | Contributed) for entry in value):
        return value
    if not isinstance(value, list) or len(value) > LONGEST_HISTORY:
        raise ValueError(f"history must be a list of at most {LONGEST_HISTORY} entries")
    for entry in value:
        if not (isinstance(entry, list) and len(entry) in (3, 4) and all(type(n) is int and n >= 0 for n in entry)):
            raise ValueError("history must hold [step, fragment, version] and [step, fragment, version, sequence]")
    return tuple(Merged(*entry) if len(entry) == 3 else Contributed(*entry) for entry in value)


History = Annotated[
    tuple[Merged | Contributed, ...], BeforeValidator(history_from), PlainSerializer(history_to_json, list[list[int]])
]


class Snapshot(Message):
    """Whose inner state this is, after how many steps; `history` is what the syncer may not know of it."""

    incarnation: Whole = Field(alias="life")
    step: Whole
    history: History = ()


class Origin(Message):
    """Where an incarnation's inner state comes from: after `step` steps of another one (None: the initial state).

    `seconds` is how long it took to get it, `ranks` how many processes the incarnation that begins has.
    """

    kind: Literal["initial", "peer", "checkpoint"]
    incarnation: Whole | None = Field(None, alias="life")
    step: Whole = 0
    history: History = ()
    seconds: Figure = 0.0
    ranks: Count = 1


@dataclass(frozen=True)
class Published:
    """How far the run was when a version was published: samples trained if known, and how many learners were at it."""

    done: int | None
    learners: int

    @property
    def order(self) -> tuple[int, int]:
        """Sorts by how far the run was."""
        return (-1 if self.done is None else self.done), self.learners


class Contribution(Message):
    """The pseudo-gradient of one fragment since what its sender sent last, sent after `step` steps.

    `joined_version` is the version the incarnation began with. `history` holds every merge and every other contribution
    of the incarnation that the syncer has not acknowledged yet: each shard takes contributions at its own pace, so this
    one may be accepted and an earlier one, of another shard, never; replay must know of both. `rank` of `ranks` says
    which part of the fragment this is.
    """

    incarnation: Whole
    fragment: Whole
    sequence: Whole
    base_version: Whole
    joined_version: Whole
    step: Whole
    tokens: Whole
    history: History = ()
    precision: Annotated[str, Field(max_length=20)]
    rank: Whole = 0
    ranks: Whole = 1

    @property
    def key(self) -> str:
        """Name on the wire."""
        return f"contribution/{self.incarnation}/{self.fragment}/{self.sequence}/{self.rank}"

    @property
    def as_history(self) -> Contributed:
        """As it stands in the history of later ones until it is acknowledged."""
        return Contributed(self.step, self.fragment, self.base_version, self.sequence)


# A learner asks the coordinator


class JoinRequest(Request):
    """A learner wants to begin an incarnation; `abandoned` is (incarnation, steps) of the one its process lived before.

    `address` is its peer server, HOST:PORT, if it has one; `batch` its samples a step. `recipe` is one for all learners
    of a run; what is in it, `config` and `manifest`, comes along so that a refusal can name what differs.
    """

    method = "join"
    name: LearnerName
    address: Address | None
    batch: Count
    recipe: Text
    code: Text
    config: dict[str, Any] = Field(default_factory=dict)
    manifest: str = ""
    abandoned: tuple[Whole, Whole] | None = None


class Peer(Message):
    """A learner that trains and can be asked for its inner state."""

    name: LearnerName
    incarnation: Whole
    address: Address


class JoinReply(Message):
    """The number of the incarnation; None when the run is finished. `peers`: who trains now, the furthest first."""

    incarnation: Whole | None = None
    peers: tuple[Peer, ...] = ()


class ShardsRequest(Request):
    """Ask where the shards in processes of their own listen."""

    method = "shards"


class ShardsReply(Message):
    """HOST:PORT of each, in order."""

    shards: tuple[Address, ...]


class HeldFragment(Message):
    """A version of a fragment, and the digest of the part that each rank of a learner has of it."""

    version: Whole
    digests: tuple[Digest, ...] = Field(max_length=MOST_RANKS)


class HealedRequest(Request):
    """A learner has its state: where its moments come from, and what it holds of every fragment."""

    method = "healed"
    incarnation: Whole
    origin: Origin
    held: dict[Index, HeldFragment] = Field(max_length=MOST_FRAGMENTS)


@dataclass(frozen=True)
class Lease:
    """Samples first_sample … first_sample + samples − 1, handed to one incarnation for good.

    `position` is where the learning-rate schedule stands at its first sample, in samples of the whole run; it moves
    `stride` samples for each one trained, since others train at the same time.
    """

    number: Whole
    incarnation: Whole
    first_sample: Whole
    samples: Count
    position: Whole
    stride: Count


class LeaseRequest(Request):
    """More samples, about so many; `backlog` are left, `received` leases have been heard of."""

    method = "lease"
    incarnation: Whole
    samples: Count
    backlog: Whole
    received: Whole


class LeaseReply(Message):
    """A lease; or the seconds after which to ask again; or that the run is finished."""

    lease: Lease | None = None
    wait: Figure | None = None
    finished: bool = False


class StepLoss(NamedTuple):
    """One inner step: its position in samples of the run, summed nats, tokens, bytes of text."""

    position: Whole
    nats: Annotated[float, Field(allow_inf_nan=False)]
    tokens: Count
    size: Figure


class LinkFigures(Message):
    """What a learner measures of its link; 0 where nothing is measured yet."""

    up_bytes_per_second: Figure = 0.0
    down_bytes_per_second: Figure = 0.0
    round_trip_seconds: Figure = 0.0


class Heartbeat(Request):
    """What a learner does now. `waits` counts how often there was nothing to train, `idle` says that it is so now.

    `flushed`: everything trained is sent. `longest_gap`: seconds between two of its steps.
    """

    method = "heartbeat"
    incarnation: Whole
    step: Whole
    waits: Whole = 0
    idle: bool = False
    flushed: bool = False
    tokens_per_second: Figure = 0.0
    longest_gap: Figure = 0.0
    losses: tuple[StepLoss, ...] = Field((), max_length=LOSSES_AT_A_TIME)
    link: LinkFigures = LinkFigures()


class HeartbeatReply(Message):
    """Why the incarnation has ended, in words and for programs, None while it goes on; whether the run is finished."""

    ended: str | None = None
    cause: EndCause | None = None
    finished: bool = False


class EndRequest(Request):
    """A learner has found itself wrong (a loss that is not finite): what it has not sent is void."""

    method = "end"
    incarnation: Whole
    reason: Text


class LeaveRequest(Request):
    """A learner goes for good, after it has sent everything."""

    method = "leave"
    incarnation: Whole


# A learner asks a shard


class NewsRequest(Request):
    """Newer versions than the known ones (fragment → version), at once or within `patience` seconds."""

    method = "news"
    incarnation: Whole
    known: dict[Index, Annotated[int, Field(strict=True, ge=-1, lt=LARGEST)]] = Field(max_length=MOST_FRAGMENTS)
    patience: Figure


class VersionNews(Message):
    """A version, which of the asking incarnation's contributions are in it, and how far the run was."""

    version: Whole
    merged: tuple[Whole, ...]
    done: Whole | None
    learners: Whole

    @property
    def published(self) -> Published:
        """How far the run was."""
        return Published(self.done, self.learners)


class NewsReply(Message):
    """Fragment → its newer version."""

    versions: dict[Index, VersionNews]


class FragmentHeader(Message):
    """Comes with a fragment, or a rank's part of it: its version, and the digest of the values that come."""

    version: Whole
    digest: Digest


class DifferencesHeader(Message):
    """Comes with differences: the digest of the values to which they lead."""

    digest: Digest


# The syncer's processes among themselves


class UnpublishedRequest(Request):
    """Ask of which fragments a learner holds what was never published."""

    method = "unpublished"
    held: dict[Index, HeldFragment] = Field(max_length=MOST_FRAGMENTS)


class UnpublishedReply(Message):
    """Indices of those fragments."""

    fragments: tuple[Whole, ...]


class ShardReport(Request):
    """What a shard says five times a second. `fenced`: incarnation → fragment → its steps in accepted contributions.

    The shard asks and the coordinator answers, not the other way round: a shard that hangs holds up nobody.
    `empty_since` is the mark of an answer that said "draining", after which nothing waited to be merged any more.
    `quarantined`: (incarnation, reason), told until it is answered. A process that has taken over a shard has a higher
    `generation` than the one before.
    """

    method = "report"
    shard: Whole
    recipe: Text
    code: Text
    generation: Whole
    address: Address
    versions: dict[Index, Whole]
    fenced: dict[Index, dict[Index, Whole]] = Field(default_factory=dict)
    empty_since: Whole | None = None
    quarantined: tuple[tuple[Whole, str], ...] = ()


class MembershipView(Message):
    """Who trains, and what is to be done, as the coordinator answers a shard.

    `mark` counts the samples ever handed out: while it stands still, nobody trains anything new. `fence`: incarnations
    that are to end and wait for this shard.
    """

    expected: frozenset[Whole] = frozenset()
    active: frozenset[Whole] = frozenset()
    draining: bool = False
    done: Whole | None = None
    mark: Whole = 0
    fence: tuple[Whole, ...] = ()
    finished: bool = False


class StatusRequest(Request):
    """Ask how the run is."""

    method = "status"


class LearnerState(Message):
    """A learner's last incarnation, as people want to know it."""

    incarnation: Whole
    state: IncarnationState
    reason: str | None
    cause: EndCause | None = None
    steps: Whole | None
    tokens_per_second: Figure


class StatusReply(Message):
    """For people and for the supervisor. `loss` is the mean over the last global steps, in nats a token."""

    finished: bool = False
    samples: Whole = 0
    total_samples: Whole = 0
    versions: dict[Index, Whole] = Field(default_factory=dict)
    loss: float | None = None
    learners: dict[str, LearnerState] = Field(default_factory=dict)
    incarnations: Whole = 0
