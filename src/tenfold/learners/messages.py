"""What learners and syncer, and the syncer's processes among each other, say; checked on arrival."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, order=True)
class Merged:
    """A learner merged a version of a fragment before its step number `step` (counted from 0 in its life)."""

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


@dataclass(frozen=True)
class Published:
    """How far the run was when a version was published: samples trained if known, and how many learners were at it."""

    done: int | None
    learners: int

    @property
    def order(self) -> tuple[int, int]:
        """Sorts by how far the run was."""
        return (-1 if self.done is None else self.done), self.learners


History = tuple[Merged | Contributed, ...]


@dataclass(frozen=True)
class Contribution:
    """The movement of one fragment since what its sender sent last, sent after `step` steps of its life.

    `joined_version` is the version the life began with. `history` holds every merge and every other contribution of
    the life that the syncer has not acknowledged yet: each shard takes contributions at its own pace, so this one may
    be accepted and an earlier one, of another shard, never; replay must know of both. `rank` of `ranks` says which part
    of the fragment this is.
    """

    life: int
    fragment: int
    sequence: int
    base_version: int
    joined_version: int
    step: int
    tokens: int
    history: History
    precision: str
    rank: int = 0
    ranks: int = 1

    @property
    def key(self) -> str:
        """Name on the wire."""
        return f"contribution/{self.life}/{self.fragment}/{self.sequence}/{self.rank}"

    @property
    def as_history(self) -> Contributed:
        """As it stands in the history of later ones until it is acknowledged."""
        return Contributed(self.step, self.fragment, self.base_version, self.sequence)

    def to_header(self) -> dict[str, Any]:
        """For the wire and the log."""
        return asdict(self) | {"history": history_to_json(self.history)}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> "Contribution":
        """Raises ValueError naming the first field that is missing or not what it should be."""
        numbers = ("life", "fragment", "sequence", "base_version", "joined_version", "step", "tokens", "rank", "ranks")
        for name in numbers:
            if type(header.get(name)) is not int or not 0 <= header[name] < 2**62:
                raise ValueError(f"{name} must be a whole number, 0 or more, not {str(header.get(name))[:40]!r}")
        if not isinstance(header.get("precision"), str):
            raise ValueError("precision must be a string")
        unknown = header.keys() - {*numbers, "precision", "history"}
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0][:40]!r}")
        return cls(
            **{name: header[name] for name in numbers},
            precision=header["precision"],
            history=history_from(header.get("history")),
        )


def history_to_json(history: Iterable[Merged | Contributed]) -> list[list[int]]:
    """[step, fragment, version] of a merge, [step, fragment, version, sequence] of a contribution."""
    return [list(astuple(entry)) for entry in history]


def history_from(value: Any) -> History:
    """A history from its JSON form. Raises ValueError when it is something else."""
    if not isinstance(value, list):
        raise ValueError("history must be a list")
    for entry in value:
        if not (isinstance(entry, list) and len(entry) in (3, 4) and all(type(n) is int and n >= 0 for n in entry)):
            raise ValueError("history must hold [step, fragment, version] and [step, fragment, version, sequence]")
    return tuple(Merged(*entry) if len(entry) == 3 else Contributed(*entry) for entry in value)


@dataclass(frozen=True)
class ShardReport:
    """What the shard says. `sealed`: life → fragment → steps of it that are in accepted contributions.

    `empty_since`: the mark of an answer that said "draining", after which nothing waited to be merged any more.
    `quarantined`: (life, reason), told until it is answered. A process that has taken over a shard has a higher
    `generation` than the one before.
    """

    shard: int
    recipe: str
    generation: int
    address: str
    versions: dict[int, int]
    sealed: dict[int, dict[int, int]] = field(default_factory=dict)
    empty_since: int | None = None
    quarantined: tuple[tuple[int, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return asdict(self)

    @classmethod
    def from_dict(cls, r: Mapping[str, Any]) -> Self:
        """From the wire, where keys are strings. Raises what a malformed message makes of it."""
        return cls(
            shard=int(r["shard"]),
            recipe=str(r["recipe"]),
            generation=int(r["generation"]),
            address=str(r["address"]),
            versions=_numbers(r["versions"]),
            sealed={int(life): _numbers(steps) for life, steps in r["sealed"].items()},
            empty_since=None if r["empty_since"] is None else int(r["empty_since"]),
            quarantined=tuple((int(life), str(reason)) for life, reason in r["quarantined"]),
        )


@dataclass(frozen=True)
class MembershipView:
    """What the coordinator answers: who trains, and what is to be done. See `Members` for what is not said here.

    `mark` counts the samples ever handed out: while it stands still, nobody trains anything new. `seal`: lives that are
    to end and wait for this shard.
    """

    expected: frozenset[int] = frozenset()
    active: frozenset[int] = frozenset()
    draining: bool = False
    done: int | None = None
    mark: int = 0
    seal: tuple[int, ...] = ()
    finished: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return asdict(self) | {"expected": sorted(self.expected), "active": sorted(self.active)}

    @classmethod
    def from_dict(cls, r: Mapping[str, Any]) -> Self:
        """From the wire."""
        return cls(
            expected=frozenset(map(int, r["expected"])),
            active=frozenset(map(int, r["active"])),
            draining=bool(r["draining"]),
            done=None if r["done"] is None else int(r["done"]),
            mark=int(r["mark"]),
            seal=tuple(map(int, r["seal"])),
            finished=bool(r["finished"]),
        )


def _numbers(value: Mapping[str, Any]) -> dict[int, int]:
    return {int(key): int(number) for key, number in value.items()}


FragmentClaim = tuple[int, Sequence[str]]
