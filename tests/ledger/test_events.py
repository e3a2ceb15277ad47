"""Events and metrics are typed: what is written is one of the kinds listed, and every kind reads back."""

import json
import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.ledger import METRICS, Event, EventKind, Ledger, metric_of
from tenfold.ledger.events import PAYLOADS, EventPayload, LearnerEnded, SyncerServing
from tenfold.ledger.incidents import INCIDENT_PAYLOADS, IncidentKind
from tenfold.ledger.metrics import LOSS, holdout_metric

FIGURES = st.floats(allow_nan=False, allow_infinity=False)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(min_value=0, max_value=2**53),
    str: st.text(),
    bool: st.booleans(),
    float: FIGURES,
    dict[str, int]: st.dictionaries(st.text(), st.integers(min_value=0, max_value=2**53)),
    dict[str, float]: st.dictionaries(st.text(), FIGURES),
}


def payloads() -> st.SearchStrategy[EventPayload]:
    """Any payload of any kind."""
    return st.sampled_from(list(PAYLOADS.values())).flatmap(
        lambda kind: st.builds(kind, **{each.name: values_of(get_type_hints(kind)[each.name]) for each in fields(kind)})
    )


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    if hint in VALUES:
        return VALUES[hint]
    if get_origin(hint) is dict:
        return st.dictionaries(VALUES[str], values_of(hint.__args__[1]), max_size=3)
    if get_origin(hint) is list:
        return st.lists(values_of(hint.__args__[0]), max_size=3)
    (inner,) = (each for each in hint.__args__ if each is not type(None))
    return st.none() | VALUES[inner]


def test_every_kind_has_one_payload_and_a_docstring() -> None:
    assert PAYLOADS.keys() == set(EventKind)
    assert INCIDENT_PAYLOADS.keys() == set(IncidentKind)
    for kind, payload in [*PAYLOADS.items(), *INCIDENT_PAYLOADS.items()]:
        assert payload.kind == kind
        assert payload.__doc__ and not payload.__doc__.startswith(payload.__name__)


@given(payloads())
def test_a_payload_of_any_kind_reads_back_as_it_was_written(payload: EventPayload) -> None:
    row = json.loads(json.dumps(payload.to_dict()))
    assert None not in row.values()
    assert Event(None, 1.0, str(payload.kind), "something happened", row).payload == payload


def test_a_row_that_lacks_a_key_or_has_one_too_many_reads_as_far_as_it_goes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger._write() as db:
        for data in ('{"life": 1, "steps": 4}', '{"shard": 2, "since": "2031"}'):
            kind = "sealed" if "life" in data else "serving"
            db.execute("INSERT INTO events (at, kind, message, data) VALUES (1.0, ?, 'x', ?)", (kind, data))
    sealed, serving = ledger.events()
    assert sealed.payload is None and sealed.data["steps"] == 4
    assert serving.payload == SyncerServing(2)
    assert [each.default for each in fields(LearnerEnded)] == [MISSING] * 5 + [None]


def test_metrics_that_are_not_listed_cannot_be_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    run = ledger.start_run("train", "f", {})
    for name in ("loss", "train/lost", "holdout/web", "holdout//bits_per_byte", "link/learner-0/speed"):
        with pytest.raises(ValueError, match=f"no metric '{name}'"):
            ledger.log(run, {1: {LOSS: 1.0, name: 1.0}})
    assert ledger.metric_names(run) == []
    for name in (LOSS, holdout_metric("web text"), "link/learner-0/round_trip_seconds", "observer/mine/spikes"):
        ledger.log(run, {1: {name: math.nan}})
        assert math.isnan(ledger.metric(run, name)[0][1])


def test_a_name_is_of_one_metric() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        name = metric.name.replace("{", "").replace("}", "")
        assert [each for each in METRICS if each.matches(name)] == [metric] == [metric_of(name)]
        assert metric.unit and metric.meaning
