"""One campaign as the page sees it: its ledger, read only, polled for what is new; every trouble one line, never more.

Nothing here writes. A reader of a WAL database does not stop a writer, and every read is short.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tenfold.core import CampaignFiles, InputError, TenfoldError
from tenfold.ledger import LOSS, TOKENS_PER_SECOND, Event, EventKind, Incident, Ledger, Prediction, Run
from tenfold.monitor.page.curve import LiveCurve, as_arrays
from tenfold.monitor.page.decimate import thin
from tenfold.monitor.page.layers import describe
from tenfold.monitor.page.learners import learners_of
from tenfold.monitor.page.record import (
    Record,
    StepClock,
    clock_of,
    event_record,
    forecast_of,
    goodput,
    incident_record,
    run_record,
)

PATIENCE_S = 1.0  # with a locked ledger; the next look is a second away
FORECASTS_EVERY_S = 10.0
CHECK_SHARE = 20  # time between two looks at a rewound stretch, in times of what the last one took
MOST_ROWS = 400  # of a curve in one message; more are thinned by extremes
DIGITS = 6
MOST_EVENTS = 3000  # of a run on the page, the newest
GOING_BACK = (EventKind.RESUMED, EventKind.STARTED, EventKind.REWOUND)


@dataclass(frozen=True)
class News:
    """Something new for whoever has the page open."""

    kind: str
    data: Record


@dataclass
class Rewind:
    """A stretch of steps that a resumed run goes through again: beyond `after`, up to `until`."""

    after: int
    until: int
    next_look: float = 0.0


class LedgerWatch:
    """One campaign's ledger. Used by one thread."""

    def __init__(self, number: int, directory: Path) -> None:
        """Open it. Raises InputError where there is no campaign, or where a newer tenfold wrote its ledger."""
        self.number, self.directory = number, directory
        self.path = CampaignFiles(directory).ledger
        self.trouble: str | None = None
        self._ledger: Ledger | None = None
        self._stale = False  # what was told is of a file that is not there any more
        self._forget()
        if not self.path.exists() and not (directory / "campaign.toml").exists():
            raise InputError(f"{directory}: no campaign here (no campaign.toml and no ledger.sqlite); name its folder")
        try:
            self._open()
        except FileNotFoundError:
            self.trouble = self._missing()

    def _forget(self) -> None:
        self._version, self._inode, self._last_event, self._looked_at_forecasts = -1, -1, 0, 0.0
        self._has_looked = False  # what is there at the first look is no news
        self.runs: dict[int, Run] = {}
        self.curves: dict[tuple[int, str], LiveCurve] = {}
        self._events: defaultdict[int | None, list[Event]] = defaultdict(list)
        self._incidents: dict[int, Incident] = {}
        self._predictions: list[Prediction] = []
        self._names: dict[int, list[str]] = {}
        self._rewinds: dict[int, Rewind] = {}

    def _open(self) -> None:
        self._inode = self.path.stat().st_ino
        self._ledger = Ledger(self.path, read_only=True, patience_s=PATIENCE_S)

    def _missing(self) -> str:
        folder = "no ledger yet: it is shown as soon as its run begins" if self.directory.exists() else "is gone"
        return f"{self.directory}: {folder}"

    def close(self) -> None:
        """Close the ledger."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    @property
    def record(self) -> Record:
        """The campaign in the list of campaigns, with its runs, oldest first."""
        where = self.directory.resolve().name
        runs = [run_record(run, self.number, where) for run in self.runs.values()]
        return {"number": self.number, "where": where, "trouble": self.trouble, "runs": runs}

    # What is new

    def poll(self) -> list[News]:
        """What came since the last poll. A ledger that cannot be read is told once, and tried again every time."""
        try:
            self._reopen()
            return [*self._recovered(), *self._news()]
        except FileNotFoundError:
            return self._fails(self._missing())
        except TenfoldError as error:
            return self._fails(str(error))

    def _fails(self, trouble: str) -> list[News]:
        self.close()
        told = self.trouble == trouble
        self.trouble = trouble
        return [] if told else [News("trouble", {"campaign": self.number, "line": trouble})]

    def _reopen(self) -> None:
        """Another file under the name, or one that is back, is read from the beginning."""
        if self._ledger is None or self.path.stat().st_ino != self._inode:
            self.close()
            self._open()
            self._stale |= bool(self.runs)
            inode = self._inode
            self._forget()
            self._inode = inode

    def _recovered(self) -> list[News]:
        """Told once the ledger can be read again."""
        if self.trouble is None and not self._stale:
            return []
        self.ledger.runs()
        self.trouble, stale, self._stale = None, self._stale, False
        reset = [News("reset", {"campaign": self.number})] if stale else []
        return [*reset, News("trouble", {"campaign": self.number, "line": None})]

    def _news(self) -> Iterator[News]:
        ledger = self.ledger
        version = ledger.version()
        if version == self._version:
            return
        yield from self._new_runs(ledger)
        yield from self._new_rows(ledger)
        yield from self._new_events(ledger)
        yield from self._new_incidents(ledger)
        yield from self._new_forecasts(ledger)
        self._has_looked = True
        if not self._rewinds:
            self._version = version  # else the stretch is looked at again, also when nothing was written meanwhile

    @property
    def ledger(self) -> Ledger:
        """The open ledger. Raises TenfoldError while there is none."""
        if self._ledger is None:
            raise TenfoldError(self.trouble or f"{self.path}: not open")
        return self._ledger

    def _new_runs(self, ledger: Ledger) -> Iterator[News]:
        runs = {run.id: run for run in ledger.runs()}
        if runs != self.runs:
            self.runs = runs
            yield News("runs", self.record)

    def _new_rows(self, ledger: Ledger) -> Iterator[News]:
        for run_id in {run_id for run_id, _ in self.curves}:
            names = ledger.metric_names(run_id)
            if names != self._names.get(run_id):
                self._names[run_id] = names
                yield News("names", {"run": self._key(run_id), "names": [describe(name) for name in names]})
            yield from self._rewritten(ledger, run_id)
            yield from self._added(ledger, run_id)

    def _added(self, ledger: Ledger, run_id: int) -> Iterator[News]:
        added = {}
        for name, curve in self._curves_of(run_id):
            rows = ledger.columns(run_id, name, after=curve.last)
            if rows[0]:
                added[name] = as_rows(*as_arrays(rows))
                curve.append(rows)
        if added:
            yield News("rows", {"run": self._key(run_id), "groups": grouped(added)})

    def _curves_of(self, run_id: int) -> list[tuple[str, LiveCurve]]:
        return [(name, curve) for (of, name), curve in self.curves.items() if of == run_id]

    def _rewritten(self, ledger: Ledger, run_id: int) -> Iterator[News]:
        """Rows that a resumed run replaced: those are sent, no others."""
        rewind = self._rewinds.get(run_id)
        if rewind is None or time.monotonic() < rewind.next_look:
            return
        begun, changed, last = time.monotonic(), {}, -1
        for name, curve in self._curves_of(run_id):
            first = curve.replace(rewind.after, ledger.columns(run_id, name, after=rewind.after))
            last = max(last, curve.last)
            if first is not None:
                changed[name] = as_rows(curve.steps[curve.steps >= first], curve.values[curve.steps >= first])
        if changed:
            yield News("rows", {"run": self._key(run_id), "groups": grouped(changed), "replace": True})
        rewind.next_look = time.monotonic() + CHECK_SHARE * (time.monotonic() - begun)
        if last > rewind.until or self.runs[run_id].status != "running":
            del self._rewinds[run_id]

    def _new_events(self, ledger: Ledger) -> Iterator[News]:
        new = ledger.events(after=self._last_event)
        if not new:
            return
        self._last_event = max(event.id or 0 for event in new)
        by_run: defaultdict[int | None, list[Event]] = defaultdict(list)
        for event in new:
            by_run[event.run_id].append(event)
            self._events[event.run_id].append(event)
        if not self._has_looked:
            return
        for run_id, events in by_run.items():
            yield from self._told(run_id, events)

    def _told(self, run_id: int | None, events: list[Event]) -> Iterator[News]:
        for event in events:
            if event.kind in GOING_BACK and run_id is not None:
                yield self._rewound(run_id, event)
        clock = self._clock(run_id)
        records = [event_record(event, clock) for event in events]
        data = {"run": self._key(run_id), "events": records, "learners": learners_of(self._events[run_id])}
        yield News("events", data)

    def _rewound(self, run_id: int, event: Event) -> News:
        step = int(event.data.get("to_step", event.data.get("step", 0)))
        until = max((curve.last for _, curve in self._curves_of(run_id)), default=-1)
        self._rewinds[run_id] = Rewind(step, until)
        return News("rewind", {"run": self._key(run_id), "step": step, "until": until})

    def _new_incidents(self, ledger: Ledger) -> Iterator[News]:
        incidents = {incident.id: incident for incident in ledger.incidents()}
        changed = [each for number, each in incidents.items() if self._incidents.get(number) != each]
        self._incidents = incidents
        for incident in changed if self._has_looked else ():
            record = incident_record(incident, self._clock(incident.run_id))
            yield News("incident", {"run": self._key(incident.run_id), "incident": record})

    def _new_forecasts(self, ledger: Ledger) -> Iterator[News]:
        if self._has_looked and time.monotonic() - self._looked_at_forecasts < FORECASTS_EVERY_S:
            return
        self._looked_at_forecasts = time.monotonic()
        predictions = ledger.predictions()
        if predictions == self._predictions:
            return
        self._predictions = predictions
        for run in self.runs.values() if self._has_looked else ():
            if (forecast := forecast_of(run, predictions)) is not None:
                yield News("forecast", {"run": self._key(run.id), "forecast": forecast})

    # What is asked for

    def curve(self, run_id: int, name: str) -> LiveCurve:
        """A metric of a run, read when it is first asked for and followed from then on."""
        known = self.curves.get((run_id, name))
        if known is None:
            known = LiveCurve()
            known.append(self.ledger.columns(run_id, name))
            self.curves[run_id, name] = known
        return known

    def names(self, run_id: int) -> list[str]:
        """Names of the metrics of a run."""
        names = self._names[run_id] = self.ledger.metric_names(run_id)
        return names

    def details(self, run_id: int) -> Record:
        """Everything about a run but its curves. Raises KeyError for a run that is not there."""
        run, names = self.runs[run_id], self.names(run_id)
        clock = self._clock(run_id)
        events = self._events[run_id]
        rate = self.curve(run_id, TOKENS_PER_SECOND) if TOKENS_PER_SECOND in names else LiveCurve()
        return run_record(run, self.number, self.directory.resolve().name) | {
            "last": self._last(run_id),
            "names": [describe(name) for name in names],
            "forecast": forecast_of(run, self._predictions),
            "events": [event_record(event, clock) for event in events[-MOST_EVENTS:]],
            "incidents": [incident_record(i, clock) for i in self._incidents.values() if i.run_id in (run_id, None)],
            "learners": learners_of(events),
            "goodput": goodput(run, rate, self._last(run_id), time.time()),
            "config": run.description.get("config", {}),
            "environment": run.description.get("environment", {}),
        }

    def _last(self, run_id: int) -> int:
        return self.curve(run_id, LOSS).last

    def _clock(self, run_id: int | None) -> StepClock:
        run = None if run_id is None else self.runs.get(run_id)
        if run is None or run_id is None:
            return StepClock([(0.0, 0)])
        return clock_of(run, self._events[run_id], max(self._last(run_id), 0), time.time())

    def _key(self, run_id: int | None) -> str:
        return f"{self.number}.{run_id}"


def as_rows(steps: Any, values: Any) -> tuple[list[int], list[float | None]]:
    """Rows for JSON: rounded, None for what is not finite; thinned where they are many."""
    if len(steps) > MOST_ROWS:
        kept = thin(steps, values, int(steps[0]), int(steps[-1]), MOST_ROWS // 2)
        steps, values = kept.steps, kept.values
    rounded = [float(f"{value:.{DIGITS}g}") if abs(value) < float("inf") else None for value in values.tolist()]
    return steps.tolist(), rounded


def grouped(rows: Mapping[str, tuple[list[int], list[float | None]]]) -> list[Record]:
    """Curves with the same steps together, so that those are sent once."""
    groups: dict[tuple[int, ...], Record] = {}
    for name, (steps, values) in rows.items():
        group = groups.setdefault(tuple(steps), {"steps": _run_lengths(steps), "values": {}})
        group["values"][name] = values
    return list(groups.values())


def _run_lengths(steps: list[int]) -> list[int]:
    """[first, count] for steps one after another, [first, count, stride] for even ones; else [0, 0, 0, *steps]."""
    stride = steps[1] - steps[0] if len(steps) > 1 else 1
    if any(after - before != stride for before, after in pairwise(steps)):
        return [0, 0, 0, *steps]
    return [steps[0], len(steps), stride] if stride != 1 else [steps[0], len(steps)]


def messages_of(sources: Iterable[LedgerWatch]) -> list[News]:
    """What is new in any campaign."""
    return [message for source in sources for message in source.poll()]
