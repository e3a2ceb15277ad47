"""`tenfold incidents`: what looked wrong in a campaign, for people and for programs that are to act on it."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tenfold.core import InputError, text_table
from tenfold.ledger import Incident, IncidentState, Severity
from tenfold.monitor.reading import ledger_of

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FIRST_STEP_KEYS = ("first_step", "step")
"""Under which an incident of any kind says where it began."""


@dataclass(frozen=True)
class IncidentList:
    """Incidents in order of number."""

    incidents: tuple[Incident, ...]

    @property
    def is_critical(self) -> bool:
        """Whether one of them is critical and not closed."""
        return any(each.severity == Severity.CRITICAL and _is_open(each) for each in self.incidents)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: one object."""
        records = [each.to_dict() | {"first_step": first_step(each)} for each in self.incidents]
        still_open = sum(map(_is_open, self.incidents))
        return {"incidents": records, "open": still_open, "critical_open": self.is_critical}

    def lines(self) -> list[str]:
        """For people: a line each, with its evidence below."""
        if not self.incidents:
            return ["no incidents"]
        head = ("id", "severity", "state", "kind", "step", "opened", "message")
        first, *rows = text_table(head, [_row(each) for each in self.incidents], "rlllrll")
        below = [_details(each) for each in self.incidents]
        return [first, *(line for row, more in zip(rows, below, strict=True) for line in (row, *more))]


def first_step(incident: Incident) -> int | None:
    """The step at which it began, where its kind says one."""
    found = next((incident.data[key] for key in FIRST_STEP_KEYS if incident.data.get(key) is not None), None)
    return None if found is None else int(found)


def run_incidents(campaign: Path, *, only_open: bool = False, since: str | None = None) -> IncidentList:
    """Incidents of a campaign; `since` a moment (2026-12-01, 2026-12-01T08:00) or for so long (30m, 2h, 3d).

    Those opened, updated or closed since then. Raises InputError for a folder without ledger and another `since`.
    """
    earliest = moment(since, time.time()) if since else 0.0
    with ledger_of(campaign) as ledger:
        found = [each for each in ledger.incidents() if each.updated_at >= earliest]
    return IncidentList(tuple(each for each in found if _is_open(each) or not only_open))


def moment(text: str, now: float) -> float:
    """Seconds since the epoch of a date, a local time, or so long before `now`. Raises InputError for other words."""
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", text.strip()):
        return now - int(ago[1]) * UNITS[ago[2]]
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(f"--since {text}: give a date or time (2026-12-01T08:00), or how long ago (2h, 3d)") from None


def _is_open(incident: Incident) -> bool:
    return incident.state != IncidentState.CLOSED


def _row(each: Incident) -> Sequence[str]:
    opened = datetime.fromtimestamp(each.opened_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    step = first_step(each)
    return (str(each.id), each.severity, each.state, each.kind, "" if step is None else str(step), opened, each.message)


def _details(each: Incident) -> list[str]:
    evidence = [f"  {link.kind}: {link.where}{f' ({link.note})' if link.note else ''}" for link in each.evidence]
    return evidence + ([f"  verdict: {each.verdict}"] if each.verdict else [])
