"""What the page says of one run besides its curves: forecast, marks on the curves, learners, goodput. JSON values."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenfold.core import digest_of
from tenfold.ledger import Event, EventKind, EvidenceKind, Incident, Prediction, Run
from tenfold.monitor.page.advice import action_for
from tenfold.monitor.page.curve import LiveCurve

Record = dict[str, Any]
MARKS = {
    EventKind.RESUMED: "restart",
    EventKind.INTERRUPTED: "restart",
    EventKind.STARTED: "restart",
    EventKind.REWOUND: "restart",
    EventKind.RESUME_NOT_EXACT: "change",
    EventKind.DAMAGED_CHECKPOINT: "change",
    EventKind.LIFE_CHANGED: "change",
    EventKind.ACTION: "action",
    EventKind.REWIND_REFUSED: "notice",
    EventKind.LEFT_THE_BAND: "notice",
    EventKind.HOLDOUT_TURNED: "notice",
    EventKind.STALLED: "learner",
    EventKind.QUARANTINED: "learner",
    EventKind.DIED: "learner",
    EventKind.GIVEN_UP: "learner",
    EventKind.CHAOS: "fault",
}
"""Events that are laid over the curves, by what they are drawn as."""
AROUND = 60  # steps before and after an incident that its curve shows
STEPS = ("step", "first_step", "begin")
"""Keys that say where in the run something was."""


@dataclass(frozen=True)
class StepClock:
    """Which step a run was at, by the moments at which its step is known: (seconds since the epoch, step)."""

    anchors: Sequence[tuple[float, int]]

    def step_at(self, at: float) -> int:
        """Interpolated; what lies outside of all moments is at the nearest."""
        times, steps = zip(*self.anchors, strict=True)
        return int(np.interp(at, times, steps))


def clock_of(run: Run, events: Sequence[Event], last: int, now: float) -> StepClock:
    """The run's clock; `last` is the last step it has measured, as of now or of its end."""
    begun: list[tuple[float, int]] = [(run.started_at, 0)]
    known = [(event.at, int(event.data["step"])) for event in events if isinstance(event.data.get("step"), int)]
    ended = (run.finished_at or now, last)
    return StepClock(sorted([*begun, *known, ended]))


def run_record(run: Run, campaign: int, where: str) -> Record:
    """A run in the list of runs."""
    return {
        "key": f"{campaign}.{run.id}",
        "campaign": campaign,
        "where": where,
        "id": run.id,
        "kind": run.kind,
        "name": str(run.description.get("name") or run.kind),
        "status": run.status,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "fingerprint": run.fingerprint[:12],
        "steps": total_steps(run.description),
    }


def total_steps(description: Mapping[str, Any]) -> int | None:
    """Steps of the whole run, where its configuration says so."""
    train = description.get("config", {}).get("train", {})
    tokens, batch = train.get("tokens"), train.get("batch_tokens")
    whole = isinstance(tokens, int | float) and isinstance(batch, int | float) and batch
    return round(tokens / batch) if whole else None


def event_record(event: Event, clock: StepClock) -> Record:
    """One line of the log; with a mark where it is drawn on the curves."""
    mark = next((mark for kind, mark in MARKS.items() if kind == event.kind), None)
    return {
        "id": event.id,
        "at": event.at,
        "kind": event.kind,
        "message": event.message,
        **_place(event.data, event.at, clock),
        **({"mark": mark} if mark else {}),
    }


def incident_record(incident: Incident, clock: StepClock) -> Record:
    """One incident with its evidence and what to do."""
    return {
        "id": incident.id,
        "kind": incident.kind,
        "severity": incident.severity,
        "state": incident.state,
        "message": incident.message,
        "verdict": incident.verdict,
        "opened_at": incident.opened_at,
        "updated_at": incident.updated_at,
        "closed_at": incident.closed_at,
        "evidence": _evidence(incident),
        "data": incident.data,
        "action": action_for(incident.kind, incident.data),
        **_place(incident.data, incident.opened_at, clock),
    }


def _evidence(incident: Incident) -> list[Record]:
    """Its links; where no curve is among them, the signal that its detector looked at, around its step."""
    links = [{"kind": each.kind, "where": each.where, "note": each.note} for each in incident.evidence]
    signal, step = incident.data.get("signal"), incident.data.get("step")
    if signal and isinstance(step, int) and all(link["kind"] != EvidenceKind.METRIC for link in links):
        where = f"{signal} {max(step - AROUND, 0)}–{step + AROUND}"
        links.insert(0, {"kind": EvidenceKind.METRIC, "where": where, "note": "the signal that its detector looked at"})
    return links


def _place(data: Mapping[str, Any], at: float, clock: StepClock) -> Record:
    """Step and whether it is known or only estimated from the time."""
    known = next((int(data[key]) for key in STEPS if isinstance(data.get(key), int)), None)
    return {"step": clock.step_at(at), "estimated": True} if known is None else {"step": known}


def forecast_of(run: Run, predictions: Sequence[Prediction]) -> Record | None:
    """The loss curve and the quantities that were forecast of this run, found by its configuration and data."""
    mine = _about(run, predictions)
    curve = next((each.basis["curve"] for each in mine if "curve" in each.basis), None)
    if not mine:
        return None
    return {"curve": curve, "quantities": [_quantity(each) for each in mine]}


def _about(run: Run, predictions: Sequence[Prediction]) -> list[Prediction]:
    wanted = _digest(run.description)
    recipes = [
        (each.basis.get("recipe"), _digest(each.basis["identity"])) for each in predictions if "identity" in each.basis
    ]
    recipe = next((recipe for recipe, digest in recipes if digest == wanted), None)
    return [each for each in predictions if recipe is not None and each.basis.get("recipe") == recipe]


def _digest(saved: Mapping[str, Any]) -> str:
    return digest_of([saved.get("config"), saved.get("manifest")])


def _quantity(prediction: Prediction) -> Record:
    return {
        "name": prediction.quantity.split(" ", 1)[-1],
        "unit": prediction.unit,
        "median": prediction.median,
        "intervals": prediction.intervals,
        "outcome": prediction.outcome,
    }


def goodput(run: Run, rate: LiveCurve, last: int, now: float) -> float | None:
    """Share of the run's time, from its first start to now or its end, that its steps needed.

    Steps trained twice, waiting and being down count as lost. None where the ledger has no `rate` in tokens a second.
    """
    batch = run.description.get("config", {}).get("train", {}).get("batch_tokens")
    elapsed = (run.finished_at or now) - run.started_at
    rates = [float(value) for value in rate.values if value > 0]
    if not batch or not rates or elapsed <= 0:
        return None
    return min(last * float(batch) / statistics.median(rates) / elapsed, 1.0)
