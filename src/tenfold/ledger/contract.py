"""The page docs/ledger.md, made from the ledger's own types: tables, events, incidents, metrics."""

import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from tenfold.ledger.events import PAYLOADS, Payload
from tenfold.ledger.incidents import INCIDENT_PAYLOADS, EvidenceKind, IncidentState, Severity
from tenfold.ledger.metrics import METRICS
from tenfold.ledger.schema import TABLES, VERSION, migrate

HEAD = f"""# The ledger

`ledger.sqlite` in the campaign's directory is the memory of its runs and the contract between the rooms that write it
and whoever reads it. It is one SQLite file in WAL mode: many processes write, anybody reads meanwhile
(`sqlite3 ledger.sqlite`, pandas, `tenfold.ledger.Ledger(path, read_only=True)`). Times are seconds since the epoch,
`data` and other structured columns are JSON.

Nothing decides by the sentences in `message`: those are for people and may change. Kinds, keys and names are on disk in
every ledger, so they are added to and never changed. `tenfold.ledger` writes what is listed here and refuses the rest;
a kind or key that a reader does not know is passed on as it is.

The schema is version {VERSION} (`PRAGMA user_version`). An older ledger is brought to it when a command opens it for
writing, with one line on the console; one that is only read stays as it is. A newer one is refused.
"""
INCIDENTS = """An incident is opened for something that looks wrong and wants an explanation. While it is not closed,
the same `cause` of the same run updates it instead of opening another. `severity` is {severities}, `state` {states}.
`evidence` is a list of links `{{"kind", "where", "note"}}`, of kind {evidence}. It is closed with a `verdict`.
"""


def render_contract() -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *_tables(), *_events(), *_incidents(), *_metrics()]).rstrip() + "\n"


def _tables() -> Iterator[str]:
    with sqlite3.connect(":memory:", isolation_level=None) as db:
        migrate(db, Path("ledger.sqlite"))
        columns = {name: [row[1] for row in db.execute(f"PRAGMA table_info({name})")] for name in TABLES}
    db.close()
    yield from ["## Tables", "", "| table | holds | columns |", "|---|---|---|"]
    yield from (f"| `{name}` | {what} | {', '.join(columns[name])} |" for name, what in TABLES.items())


def _events() -> Iterator[str]:
    yield from ["", "## Events", "", "Keys marked ? may be missing.", "", "| kind | data | when |", "|---|---|---|"]
    yield from (f"| `{kind}` | {_keys(payload)} | {_meaning(payload)} |" for kind, payload in PAYLOADS.items())


def _incidents() -> Iterator[str]:
    said = INCIDENTS.format(
        severities=_choices(Severity), states=_choices(IncidentState), evidence=_choices(EvidenceKind)
    )
    yield from ["", "## Incidents", "", said, "| kind | severity | data | when |", "|---|---|---|---|"]
    for kind, payload in INCIDENT_PAYLOADS.items():
        yield f"| `{kind}` | {payload.severity} | {_keys(payload)} | {_meaning(payload)} |"


def _metrics() -> Iterator[str]:
    head = "By run, name and step. Parts in braces stand for names of the run's own."
    yield from ["", "## Metrics", "", head, "", "| name | unit | meaning |", "|---|---|---|"]
    yield from (f"| `{metric.name}` | {metric.unit} | {metric.meaning} |" for metric in METRICS)


def _choices(choices: Any) -> str:
    return ", ".join(f"`{choice}`" for choice in choices)


def _keys(payload: type[Payload]) -> str:
    hints = get_type_hints(payload)
    return ", ".join(_key(field.name, hints[field.name]) for field in fields(payload)) or "–"


def _key(name: str, hint: Any) -> str:
    inner = [each for each in getattr(hint, "__args__", ()) if each is not type(None)]
    optional = type(None) in getattr(hint, "__args__", ())
    kind = inner[0] if optional else hint
    return f"`{name}`{'?' if optional else ''}: {kind if getattr(kind, '__args__', ()) else kind.__name__}"


def _meaning(payload: type[Payload]) -> str:
    return " ".join((payload.__doc__ or "").split())
