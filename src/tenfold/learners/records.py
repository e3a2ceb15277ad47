"""What learners and syncer tell each other about a contribution, checked on arrival."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any


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
