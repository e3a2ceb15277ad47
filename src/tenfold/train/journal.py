"""Metrics of a run on their way to the ledger: written in batches, always before the checkpoint they lead to."""

from collections.abc import Mapping
from typing import Any

from tenfold.ledger import Ledger


class Journal:
    """Collects metrics by step; only the first rank has a ledger to write to."""

    def __init__(
        self, ledger: Ledger | None, fingerprint: str, description: Mapping[str, Any], kind: str = "train"
    ) -> None:
        self._ledger = ledger
        self.run_id = ledger.start_run(kind, fingerprint, description) if ledger else None
        self._waiting: dict[int, dict[str, float]] = {}

    def note(self, step: int, **values: float) -> None:
        """Keep metrics of `step` under `train/<name>`."""
        self._waiting.setdefault(step, {}).update({f"train/{name}": value for name, value in values.items()})

    def note_holdouts(self, step: int, bits_per_byte: Mapping[str, float]) -> None:
        """Keep bits per byte of each holdout at `step`."""
        named = {f"holdout/{name}/bits_per_byte": value for name, value in bits_per_byte.items()}
        self._waiting.setdefault(step, {}).update(named)

    def event(self, kind: str, message: str, **data: Any) -> None:
        """Write an event at once."""
        if self._ledger:
            self._ledger.event(kind, message, run_id=self.run_id, **data)

    def incident(self, kind: str, message: str, **data: Any) -> None:
        """Write at once that something is wrong and wants an explanation."""
        if self._ledger:
            self._ledger.open_incident(kind, message, run_id=self.run_id, **data)

    def continue_from(self, fingerprint: str, step: int) -> None:
        """Take over the metrics up to `step` of the run with this fingerprint, if it is another one."""
        if self._ledger and self.run_id is not None:
            self._ledger.inherit_metrics(self.run_id, fingerprint, step)

    def recorded(self, name: str, up_to_step: int) -> list[tuple[int, float]]:
        """(step, value) of a metric, as far as it is written already."""
        if self._ledger is None or self.run_id is None:
            return []
        return [(step, value) for step, value in self._ledger.metric(self.run_id, name) if step <= up_to_step]

    def flush(self) -> None:
        """Write what is waiting. A resumed run repeats steps after the last checkpoint and replaces theirs."""
        if self._ledger and self.run_id is not None and self._waiting:
            self._ledger.log(self.run_id, self._waiting)
        self._waiting.clear()

    def finish(self, status: str) -> None:
        """Flush and close the run as done, interrupted or failed."""
        self.flush()
        if self._ledger and self.run_id is not None:
            self._ledger.finish_run(self.run_id, status)
