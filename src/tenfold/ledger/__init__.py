"""The run's memory and the contract of what is in it: runs, metrics, events, incidents, forecasts, changes."""

from tenfold.ledger.events import Event, EventKind, EventPayload
from tenfold.ledger.forecasts import ForecastRegistry
from tenfold.ledger.incidents import (
    Evidence,
    EvidenceKind,
    Incident,
    IncidentKind,
    IncidentPayload,
    IncidentState,
    Severity,
)
from tenfold.ledger.metrics import METRICS, Metric, metric_of
from tenfold.ledger.records import Prediction, Run, TriedChange
from tenfold.ledger.store import Ledger

__all__ = [
    "METRICS",
    "Event",
    "EventKind",
    "EventPayload",
    "Evidence",
    "EvidenceKind",
    "ForecastRegistry",
    "Incident",
    "IncidentKind",
    "IncidentPayload",
    "IncidentState",
    "Ledger",
    "Metric",
    "Prediction",
    "Run",
    "Severity",
    "TriedChange",
    "metric_of",
]
