"""Rows of the ledger as values: runs, forecasts, tried changes. Times are seconds since the epoch."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """One run as the ledger knows it. Times are seconds since the epoch.

    Status is running, done, interrupted or failed.
    """

    id: int
    kind: str
    fingerprint: str
    description: dict[str, Any]
    started_at: float
    finished_at: float | None
    status: str


@dataclass(frozen=True)
class Prediction:
    """A forecast, registered before it is measured. `intervals` maps a level ("0.8") to [low, high]."""

    quantity: str
    unit: str
    median: float
    intervals: dict[str, tuple[float, float]]
    basis: dict[str, Any]
    registered_at: float = 0.0
    outcome: float | None = None
    settled_at: float | None = None

    @property
    def error(self) -> float | None:
        """(measured − forecast) / forecast, once it is settled."""
        return None if self.outcome is None else self.outcome / self.median - 1


@dataclass(frozen=True)
class TriedChange:
    """A change of the recipe and what it was found to be worth.

    `recipe` hashes the campaign it changes and the corpus; `set` maps dotted keys of campaign.toml to values; `stack`
    names the changes it was tried on top of. `stack_check` compares the product of what each was worth alone with this
    assessment; None without a stack, or where one of them was never tried alone.
    """

    name: str
    recipe: str
    description: str
    set: dict[str, Any]
    stack: list[str]
    assessment: dict[str, Any]
    stack_check: dict[str, Any] | None
    decided_at: float
