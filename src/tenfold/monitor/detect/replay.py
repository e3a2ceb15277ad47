"""Detectors on a run that is recorded: the same values give the same incidents, whatever thresholds are tried."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tenfold.core import InputError
from tenfold.ledger import IncidentClosed, Ledger, SignalIncident
from tenfold.monitor.detect.bank import Bank


@dataclass
class ReplayedIncident:
    """An incident that the detectors found: the step it opened at, and how it ended, if it did."""

    payload: SignalIncident
    opened: int
    message: str
    closed: int | None = None
    verdict: str | None = None


def recorded_values(ledger: Ledger, run_id: int, upto: int | None = None) -> Iterator[tuple[int, dict[str, float]]]:
    """(step, name → value) of every metric of a run, in order of step."""
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for name in ledger.metric_names(run_id):
        for step, value in ledger.metric(run_id, name):
            if upto is None or step <= upto:
                rows[step][name] = value
    for step in sorted(rows):
        yield step, rows[step]


def replay_detectors(ledger: Ledger, run_id: int, bank: Bank | None = None) -> list[ReplayedIncident]:
    """Show a bank (default: one as a run has it) every recorded step. Raises InputError when there is none."""
    bank, found, open_now = bank or Bank(), list[ReplayedIncident](), dict[str, ReplayedIncident]()
    step = 0
    for step, values in recorded_values(ledger, run_id):
        for word in bank.update(step, values):
            if isinstance(word.what, IncidentClosed):
                over = open_now.pop(word.what.cause)
                over.closed, over.verdict = step, word.what.verdict
            elif word.is_new:
                found.append(ReplayedIncident(word.what, step, word.message))
                open_now[word.what.cause] = found[-1]
    if not step:
        raise InputError(f"{ledger.path}: run {run_id} has no metrics to show to the detectors")
    return found
