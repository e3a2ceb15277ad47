"""What a detector says: something looks wrong here."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tenfold.ledger import Evidence, EvidenceKind, SignalIncident

Values = Mapping[str, float]
"""Signals of one step by their names in the ledger; what was not read is missing."""
Samples = tuple[int, int]
"""First and last sample of a batch."""


@dataclass(frozen=True)
class Finding:
    """One alarm. Of those with one cause, the one of the highest `rank` names the incident."""

    payload: SignalIncident
    family: str
    """Findings of one family within one incident's time have one cause."""
    rank: int
    said: str
    """What is wrong, without the step."""
    jumped: bool = False
    """Whether the signal jumped, so that its near level is what it was before."""

    def evidence(self, until: int) -> tuple[Evidence, ...]:
        """The metric, from the first step to `until`, and the samples if they are known."""
        p = self.payload
        note = "" if p.value is None or p.expected is None else f"{p.value:.4g}, expected {p.expected:.4g}"
        found = [Evidence(EvidenceKind.METRIC, f"{p.signal} {p.step}–{until}", note)]
        if p.first_sample is not None:
            found.append(Evidence(EvidenceKind.SAMPLES, f"{p.first_sample}–{p.last_sample}"))
        return tuple(found)


class Detector(Protocol):
    """A pure function of the signals so far: what `update` returns depends on what it was shown and nothing else."""

    name: str

    def update(self, step: int, values: Values) -> Sequence[Finding]:
        """Take the signals of a step; what looks wrong now."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


_PLACE = re.compile(r"(block|link|learner|device|probe|source|digest/weights|digest/gradients)/(.+?)(?:/[^/]+)?")


def place_of(signal: str) -> dict[str, str]:
    """`block` or `learner` that a signal is of, as keywords of a payload."""
    found = _PLACE.fullmatch(signal)
    if found is None or found.group(1) in ("probe", "source"):
        return {}
    if found.group(1) == "block":
        return {"block": found.group(2)}
    return {"learner": found.group(2)}


def finite(value: float | None) -> float | None:
    """A figure that JSON has, None for one that is not finite."""
    return value if value is not None and math.isfinite(value) else None
