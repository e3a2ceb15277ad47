"""The report of a run of several learners: its words and pictures."""

import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest

from tenfold.pages.learners import MOST_ROWS, lead_of, learners_page, shown_rows, trained_by, verdict_of
from tenfold.pages.learners_charts import time_unit, timeline_picture

Record = dict[str, Any]


def a_learner(name: str = "learner-0", **other: Any) -> Record:
    return {
        "name": name,
        "lives": 1,
        "steps": 100,
        "tokens": 6400,
        "training_seconds": 60.0,
        "tokens_per_second": 106.7,
        "steps_again": 0,
        "merges": 30,
        "bytes_sent": 64_000,
        "bytes_per_token": 10.0,
        "longest_gap": 0.2,
        "quarantines": [],
    } | other


def a_row(name: str, *spans: tuple[str, float, float], marks: list[Record] | None = None) -> Record:
    timed = [{"state": state, "begin": begin, "end": end} for state, begin, end in spans]
    return {"name": name, "spans": timed or at_work(60.0), "disturbances": [], "marks": marks or []}


def at_work(end: float) -> list[Record]:
    return [{"state": "training", "begin": 0.0, "end": end}]


def a_run(**other: Any) -> Record:
    names = ["learner-0", "learner-1"]
    return {
        "seconds": 60.0,
        "tokens_per_second": 213.3,
        "pauses": [],
        "rows": [a_row(name) for name in (*names, "syncer")],
        "outages": [],
        "participation": {"merges": 40, "mean": 0.75, "full": 20, "over_time": [None, 0.5, 1.0]},
        "rates": {name: [0.0, 150.0, 170.0] for name in names},
        "learners": [a_learner(name) for name in names],
        "lives": [{"number": 1, "name": "learner-0", "begin": 0.0, "end": None, "steps": None, "reason": None}],
        "samples": {"total": 400, "missing": 0, "twice": 0},
        "contributions_lost": 0,
        "steps_in_part": 0,
        "data_parallel_bytes_per_token": 2000.0,
        "syncer": {"restarts": 0, "versions": 40, "refused": 0},
    } | other


def out(name: str, kind: str, begin: float, end: float | None) -> Record:
    return {"name": name, "kind": kind, "begin": begin, "end": end}


def test_a_run_without_faults_is_told_in_one_sentence() -> None:
    assert lead_of(a_run()) == "2 learners trained 400 samples in 1m00s. None of them was ever out."
    assert verdict_of(a_run()) == ("Nothing that was sent is lost; every sample counts once.", True)


@pytest.mark.parametrize(
    ("outage", "told"),
    [
        (out("learner-1", "kill", 31.4, 36.6), "learner-1 was killed at 0:31 and trained again 5.2s later."),
        (out("learner-0", "stop", 3671, 3701), "learner-0 was frozen at 1:01:11 and trained again 30s later."),
        (out("learner-0", "hang", 5, None), "learner-0 hung at 0:05 and did not train again."),
        (
            out("learner-0", "no progress for 3.0 s", 5, 6),
            "learner-0 was given up (no progress for 3.0 s) at 0:05 and trained again 1s later.",
        ),
    ],
)
def test_an_outage_is_told_in_plain_words(outage: Record, told: str) -> None:
    assert told in lead_of(a_run(outages=[outage]))


def test_many_outages_are_told_together() -> None:
    outages = [
        out("learner-1", kind, 10, end) for kind, end in [("kill", 12), ("kill", 14), ("hang", 19), ("nan", None)]
    ]
    told = lead_of(a_run(outages=outages, syncer={"restarts": 2, "versions": 40, "refused": 0}))
    assert "Learners were out 4 times: 2 killed, 1 hung, 1 NaN." in told
    assert "They trained again 4s later in the median, 9s at most; once not before the end." in told
    assert "The syncer was restarted twice." in told


def test_an_interruption_is_told_and_left_out() -> None:
    told = lead_of(a_run(pauses=[{"at": 20.0, "seconds": 3600.0}]))
    assert "The run was interrupted once and taken up again; these 1h00m are left out." in told


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"samples": {"total": 400, "missing": 3, "twice": 1}}, "3 samples are missing, 1 count more than once"),
        ({"contributions_lost": 2}, "2 contributions were taken but never merged"),
    ],
)
def test_what_is_lost_is_said(other: Record, told: str) -> None:
    verdict, sound = verdict_of(a_run(**other))
    assert told in verdict and not sound


def test_the_traffic_is_held_against_data_parallel() -> None:
    page = learners_page({"learners": a_run()})
    assert page is not None
    totals = dict(page.totals)
    assert totals["bytes a learner sent for each token"] == "10"
    assert totals["with a float32 all-reduce at every step"] == "2k (200×)"


def test_one_learner_alone_is_not_held_against_anything() -> None:
    run = a_run(learners=[a_learner()], data_parallel_bytes_per_token=0.0)
    page = learners_page({"learners": run})
    assert page is not None and "with a float32 all-reduce at every step" not in dict(page.totals)


def test_a_plain_run_has_no_such_section() -> None:
    assert learners_page({"learners": None}) is None
    assert learners_page({}) is None


def test_nothing_is_said_about_machines_elsewhere() -> None:
    elsewhere = {"config": {"learners": {"count": 3, "launch": "none"}}, "environment": {}, "throughput": {}}
    assert trained_by(elsewhere) == "by 3 learners"
    assert trained_by(elsewhere | {"learners": a_run()}) == "by 2 learners"
    assert trained_by({"config": {"learners": {"count": 0, "launch": "local"}}}) == trained_by({"config": {}}) == ""


def test_quarantines_are_listed_with_their_reason() -> None:
    run = a_run(learners=[a_learner(quarantines=["it has NaN"]), a_learner("learner-1")])
    page = learners_page({"learners": run})
    assert page is not None and page.quarantines == (("learner-0", "it has NaN"),)


def test_of_thousands_of_learners_those_with_faults_are_shown() -> None:
    mark = {"kind": "fault", "at": 30.0, "text": "kill"}
    rows = [a_row(f"learner-{number}", marks=[mark] if number == 777 else []) for number in range(1000)]
    shown = shown_rows([*rows, a_row("syncer")])
    assert len(shown) == MOST_ROWS
    assert [row["name"] for row in shown][:2] == ["learner-0", "learner-1"]
    assert [row["name"] for row in shown][-2:] == ["learner-777", "syncer"]


def test_labels_of_faults_do_not_run_into_one_another_or_out_of_the_picture() -> None:
    marks = [{"kind": "fault", "at": at, "text": "partition"} for at in (0.0, 0.5, 1.0, 30.0, 59.9, 60.0)]
    svg = timeline_picture([a_row("learner-0", marks=marks), a_row("syncer")], 60.0, [])
    root = ET.fromstring(str(svg))
    labels = [text for text in root.iter("text") if text.text == "partition"]
    centres = [float(text.attrib["x"]) for text in labels]
    width = 9 * 6.6
    assert len(labels) == 3
    assert all(right - left >= width for left, right in pairwise(centres))
    assert centres[0] - width / 2 >= 0 and centres[-1] + width / 2 <= 1040


def test_the_picture_says_in_words_who_was_out_when() -> None:
    row = a_row("learner-0", ("training", 0, 31), ("out", 31, 35), ("training", 35, 60))
    root = ET.fromstring(str(timeline_picture([row, a_row("syncer")], 60.0, [])))
    told = root.attrib["aria-label"]
    assert told == ("What each process did when. learner-0: dead or given up 0:31 to 0:35; syncer: at work throughout.")


@pytest.mark.parametrize(("seconds", "unit"), [(60, (1, "seconds")), (600, (60, "minutes")), (86_400, (3600, "hours"))])
def test_the_time_axis_has_a_unit_that_fits(seconds: float, unit: tuple[float, str]) -> None:
    assert time_unit(seconds) == unit
