"""A campaign's ledger as Prometheus reads it: the newest value of every metric, incidents, and signs of life.

Text exposition format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). Nothing here writes.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from tenfold.ledger import METRICS, Incident, IncidentState, Ledger, Metric, Run, Severity, metric_of
from tenfold.monitor.reading import last_write

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNITS = {"s": "_seconds", "bytes": "_bytes", "share": "_ratio"}
"""Ends of names, as Prometheus wants base units."""
PREFIX = "tenfold_"

HEARTBEAT = f"{PREFIX}heartbeat_age_seconds"
RUNNING = f"{PREFIX}run_running"
STEP = f"{PREFIX}run_step"
INCIDENTS = f"{PREFIX}incidents"
OPEN = f"{PREFIX}incidents_open"
OWN = {
    HEARTBEAT: "seconds since anybody wrote to the ledger; grows without end when a run is dead",
    RUNNING: "whether the ledger says that the run goes on (1) or has ended (0)",
    STEP: "last step of which the run has a metric",
    INCIDENTS: "incidents by kind, severity and state",
    OPEN: "incidents that are not closed, by severity; 0 is written too",
}
"""Families that are no metric of the ledger, and what they mean."""


def prometheus_name(metric: Metric) -> str:
    """train/overhead (share) → tenfold_train_overhead_ratio; parts in braces are labels and no part of it."""
    words = re.sub(r"/?\{\w+\}/?", "/", metric.name).strip("/").replace("/", "_")
    end = UNITS.get(metric.unit, "")
    return PREFIX + words.removesuffix("_share").removesuffix(end) + end


@cache
def _labels(template: str) -> re.Pattern[str]:
    """What finds the parts in braces of a metric's name."""
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile("".join(f"(?P<{part}>.+)" if place % 2 else re.escape(part) for place, part in enumerate(parts)))


def labels_of(name: str) -> dict[str, str]:
    """block/3/grad_norm → {"block": "3"}. Raises ValueError for a name that is no metric."""
    found = _labels(metric_of(name).name).fullmatch(name)
    return found.groupdict() if found else {}


def metrics_text(ledger: Ledger, now: float | None = None) -> str:
    """Everything, as one text. `now`: seconds since the epoch, of which the heartbeat's age is counted."""
    return _text(_families(ledger, time.time() if now is None else now))


def metrics_text_of(ledgers: Mapping[str, Ledger], now: float | None = None) -> str:
    """The same of several campaigns in one text, each line with a label `campaign`."""
    joined: dict[str, Family] = {}
    for campaign, ledger in ledgers.items():
        for family in _families(ledger, time.time() if now is None else now):
            values = [({"campaign": campaign, **labels}, value) for labels, value in family.values]
            before = joined.get(family.name, Family(family.name, family.help, ()))
            joined[family.name] = replace(before, values=[*before.values, *values])
    return _text(joined.values())


def _families(ledger: Ledger, now: float) -> "list[Family]":
    return [*_signs_of_life(ledger, now), *_metrics(ledger)]


def _text(families: "Iterable[Family]") -> str:
    return "".join(line for family in families for line in family.lines())


@dataclass(frozen=True)
class Family:
    """One name, its help, and a value for each set of labels."""

    name: str
    help: str
    values: Sequence[tuple[Mapping[str, str], float]]

    def lines(self) -> Iterator[str]:
        """HELP, TYPE and a line a value."""
        said = self.help.replace("\\", r"\\").replace("\n", r"\n")
        yield f"# HELP {self.name} {said}\n# TYPE {self.name} gauge\n"
        for labels, value in self.values:
            inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{self.name}{{{inner}}} {_number(value)}\n" if inner else f"{self.name} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(float(value)) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


def _signs_of_life(ledger: Ledger, now: float) -> Iterator[Family]:
    """Heartbeat, runs, incidents."""
    yield Family(HEARTBEAT, OWN[HEARTBEAT], [({}, max(0.0, now - last_write(ledger.path)))])
    runs = shown_runs(ledger.runs())
    yield Family(RUNNING, OWN[RUNNING], [(_of_run(run), float(run.status == "running")) for run in runs])
    steps = [(_of_run(run), _last_step(ledger.newest(run.id))) for run in runs]
    yield Family(STEP, OWN[STEP], [(labels, float(step)) for labels, step in steps if step is not None])
    yield from _incidents(ledger.incidents())


def _incidents(incidents: Iterable[Incident]) -> Iterator[Family]:
    counts = Counter((each.kind, each.severity, each.state) for each in incidents)
    by_all = [
        ({"kind": kind, "severity": severity, "state": state}, float(number))
        for (kind, severity, state), number in sorted(counts.items())
    ]
    yield Family(INCIDENTS, OWN[INCIDENTS], by_all)
    still: Counter[str] = Counter()
    for (_, severity, state), number in counts.items():
        still[severity] += number * (state != IncidentState.CLOSED)
    yield Family(OPEN, OWN[OPEN], [({"severity": each}, float(still[each])) for each in Severity])


def _metrics(ledger: Ledger) -> Iterator[Family]:
    """A family for each metric of which a run that is shown has a value, in the order of the table."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for run in shown_runs(ledger.runs()):
        for name, (_, value) in ledger.newest(run.id).items():
            with suppress(ValueError):  # a name that this version does not know
                found.setdefault(metric_of(name).name, []).append((_of_run(run) | labels_of(name), value))
    for metric in METRICS:
        if metric.name in found:
            help_ = f"{metric.meaning} ({metric.unit})"
            yield Family(prometheus_name(metric), help_, found[metric.name])


def shown_runs(runs: Iterable[Run]) -> list[Run]:
    """Runs that go on, and the newest of each kind: those of a ladder that are over are history."""
    every = list(runs)
    newest = {run.kind: run.id for run in every}
    return [run for run in every if run.status == "running" or newest[run.kind] == run.id]


def _of_run(run: Run) -> dict[str, str]:
    return {"run": str(run.id), "kind": run.kind}


def _last_step(newest: Mapping[str, tuple[int, float]]) -> int | None:
    return max((step for step, _ in newest.values()), default=None)
