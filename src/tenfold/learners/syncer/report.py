"""What a shard in a process of its own and the coordinator tell each other, several times a second.

The shard asks and the coordinator answers, not the other way round: a shard that hangs holds up nobody. (But for
`RemoteShard.unpublished`, where it holds up the learner that joins.)
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Report:
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
class Membership:
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
