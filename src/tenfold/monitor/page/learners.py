"""Learners of a run as its events tell them: each one's state over time, its lives and the steps that count."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tenfold.ledger import Event, EventKind

STATES = {
    EventKind.JOINED: "healing",
    EventKind.HEALED: "training",
    EventKind.STALLED: "out",
    EventKind.ENDED: "out",
    EventKind.LEFT: "left",
}
"""What a learner is after an event of its life."""
BY_NAME = {EventKind.DIED: "out", EventKind.GIVEN_UP: "out"}
FINISHED = "finished"


@dataclass
class LearnerHistory:
    """One learner. `spans`: (state, seconds since the epoch from which on it is so), in order of time."""

    name: str
    spans: list[tuple[str, float]] = field(default_factory=list)
    lives: int = 0
    steps: int = 0
    """That count, of lives that ended."""
    strikes: int = 0

    def becomes(self, state: str, at: float) -> None:
        """Note a change of state."""
        if not self.spans or self.spans[-1][0] != state:
            self.spans.append((state, at))

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "state": self.spans[-1][0] if self.spans else "out",
            "spans": self.spans,
            "lives": self.lives,
            "steps": self.steps,
            "strikes": self.strikes,
        }


def learners_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Every learner that joined, in order of joining. Events are in order of time."""
    learners: dict[str, LearnerHistory] = {}
    by_life: dict[int, LearnerHistory] = {}
    for event in events:
        _take(event, learners, by_life)
    return [learner.record() for learner in learners.values()]


def _take(event: Event, learners: dict[str, LearnerHistory], by_life: dict[int, LearnerHistory]) -> None:
    if event.kind == EventKind.JOINED:
        _joined(event, learners, by_life)
    elif event.kind == EventKind.FINISHED:
        for learner in learners.values():
            learner.becomes(FINISHED, event.at)
    whose = _whose(event, learners, by_life)
    if whose is not None:
        _changed(whose, event)


def _joined(event: Event, learners: dict[str, LearnerHistory], by_life: dict[int, LearnerHistory]) -> None:
    life = int(event.data.get("life", -1))
    name = str(event.data.get("name") or f"life {life}")
    learner = by_life[life] = learners.setdefault(name, LearnerHistory(name))
    learner.lives += 1


def _whose(
    event: Event, learners: Mapping[str, LearnerHistory], by_life: Mapping[int, LearnerHistory]
) -> LearnerHistory | None:
    """The learner that an event is about; None for one of the whole run."""
    if event.kind in BY_NAME:
        return learners.get(str(event.data.get("learner")))
    return by_life.get(int(event.data.get("life", -1)))


def _changed(learner: LearnerHistory, event: Event) -> None:
    kind = next((each for each in (*STATES, *BY_NAME) if each == event.kind), None)
    if kind is not None:
        learner.becomes((STATES | BY_NAME)[kind], event.at)
    if event.kind == EventKind.ENDED:
        learner.steps += int(event.data.get("steps", 0))
    if event.kind == EventKind.QUARANTINED:
        learner.strikes += 1
