"""When which fault hits whom. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.config.chaos import AMOUNTS, LEARNERS_ONLY, Chaos, Fault, FaultKind

SYNCER = "syncer"
ANY = "any"


@dataclass(frozen=True)
class Injection:
    """One fault to come. Due `at_seconds` after the start, or when the run has done the share `at` of its tokens."""

    kind: FaultKind
    target: str
    at_seconds: float | None = None
    at: float | None = None
    seconds: float = 5.0
    """How long it lasts, of the kinds that last (LASTING)."""
    amount: float | None = None
    """How strong: see AMOUNTS."""

    @property
    def strength(self) -> float:
        """The amount, or the kind's own. Raises KeyError for a kind that has none."""
        return AMOUNTS[self.kind] if self.amount is None else self.amount

    def is_due(self, seconds: float, share: float) -> bool:
        """Whether its time has come, `seconds` after the start with `share` of the tokens done."""
        return (self.at_seconds is not None and seconds >= self.at_seconds) or (
            self.at is not None and share >= self.at
        )


def planned(chaos: Chaos, targets: Sequence[str], horizon_seconds: float, seed: int) -> list[Injection]:
    """Every fault of a run of `horizon_seconds`: those planned in [chaos], then the random ones in order of time.

    `targets`: names of the processes. The random ones are a Poisson process of `chaos.per_hour`: the waits between
    them are exponential, kind and target uniform. The same `chaos`, `targets` and `seed` (0 or more, the run's own)
    give the same list; a longer horizon only adds to its end.
    """
    drawing = np.random.default_rng([chaos.seed, seed, 0])
    faults = [_from_fault(fault, targets, drawing) for fault in chaos.faults]
    return faults + _random(chaos, targets, horizon_seconds, np.random.default_rng([chaos.seed, seed, 1]))


def _from_fault(fault: Fault, targets: Sequence[str], rng: np.random.Generator) -> Injection:
    target = _draw(_victims(fault.kind, targets), rng) if fault.target == ANY else fault.target
    return Injection(fault.kind, target or ANY, fault.at_seconds, fault.at, fault.seconds, fault.amount)


def _random(chaos: Chaos, targets: Sequence[str], horizon: float, rng: np.random.Generator) -> list[Injection]:
    injections: list[Injection] = []
    if not chaos.per_hour or not targets:
        return injections
    now = rng.exponential(3600 / chaos.per_hour)
    while now < horizon:
        kind = chaos.kinds[int(rng.integers(len(chaos.kinds)))]
        target = _draw(_victims(kind, targets), rng)
        if target is not None:
            injections.append(Injection(kind, target, at_seconds=now, seconds=chaos.seconds))
        now += rng.exponential(3600 / chaos.per_hour)
    return injections


def _victims(kind: FaultKind, targets: Sequence[str]) -> list[str]:
    return [target for target in targets if not target.startswith(SYNCER) or kind not in LEARNERS_ONLY]


def _draw(names: Sequence[str], rng: np.random.Generator) -> str | None:
    return names[int(rng.integers(len(names)))] if names else None
