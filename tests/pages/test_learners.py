"""The report of a run of several learners: figures of a real one, and words and pictures of hand-made ones."""

import json
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tenfold.campaign import run_evaluate, run_report
from tenfold.campaign.report.learners import data_parallel_bytes_per_token
from tenfold.core.text import clock
from tenfold.pages.learners import MOST_ROWS, lead_of, learners_page, shown_rows, trained_by, verdict_of
from tenfold.pages.learners_charts import time_unit, timeline_picture
from tests.campaign.browser import open_browser
from tests.learners.small import committed_samples, learners_campaign, total_samples, train

Record = dict[str, Any]
CONTEXT = 32
KILL = """
[chaos]
faults = [{ kind = "kill", target = "learner-1", at = 0.3 }]
"""


# A real run


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two learners, one of them killed on the way; trained, scored and reported."""
    directory = learners_campaign(tmp_path_factory.mktemp("learners"), tokens=64_000, more=KILL)
    train(directory)
    run_evaluate(directory, ())
    run_report(directory, ())
    return directory


@pytest.fixture(scope="module")
def learners(campaign: Path) -> Record:
    record: Record = json.loads((campaign / "report.json").read_text())["learners"]
    return record


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def merge_log(campaign: Path, sql: str) -> list[tuple[Any, ...]]:
    return rows(campaign / "learners" / "shard-0" / "merge-log.sqlite", sql)


def happened(campaign: Path, kind: str) -> list[tuple[float, Record]]:
    found = rows(campaign / "ledger.sqlite", f"SELECT at, data FROM events WHERE kind = '{kind}' ORDER BY id")
    return [(at, json.loads(data)) for at, data in found]


@pytest.mark.slow
def test_tokens_and_steps_are_those_of_the_books(campaign: Path, learners: Record) -> None:
    book = campaign / "learners" / "coordinator.sqlite"
    tokens = "SELECT name, 32 * sum(committed) FROM leases JOIN lives ON life = lives.number GROUP BY name"
    steps = "SELECT name, sum(steps), count(*) FROM lives GROUP BY name"
    assert {each["name"]: each["tokens"] for each in learners["learners"]} == dict(rows(book, tokens))
    assert [(each["name"], each["steps"], each["lives"]) for each in learners["learners"]] == rows(book, steps)
    assert sum(each["tokens"] for each in learners["learners"]) == 64_000
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    assert learners["samples"] == {"total": 2000, "missing": 0, "twice": 0}
    assert learners["contributions_lost"] == 0


@pytest.mark.slow
def test_merges_and_bytes_are_those_of_the_merge_log(campaign: Path, learners: Record) -> None:
    merged, alive = zip(*merge_log(campaign, "SELECT learners, alive FROM versions WHERE version > 0"), strict=True)
    participation = learners["participation"]
    assert participation["merges"] == learners["syncer"]["versions"] == len(merged)
    assert participation["mean"] == pytest.approx(sum(m / a for m, a in zip(merged, alive, strict=True)) / len(merged))
    assert participation["full"] == sum(m == a for m, a in zip(merged, alive, strict=True))
    sent = dict(merge_log(campaign, "SELECT life, sum(bytes) FROM contributions GROUP BY life"))
    names = dict(rows(campaign / "learners" / "coordinator.sqlite", "SELECT number, name FROM lives"))
    for each in learners["learners"]:
        expected = sum(size for life, size in sent.items() if names[life] == each["name"])
        assert each["bytes_sent"] == expected
        assert each["bytes_per_token"] == expected / each["tokens"]


@pytest.mark.slow
def test_the_kill_is_told_with_the_time_it_took(campaign: Path, learners: Record) -> None:
    ((killed, data),) = happened(campaign, "chaos")
    assert data == {"fault": "kill", "target": "learner-1"}
    begin = rows(campaign / "learners" / "coordinator.sqlite", "SELECT min(joined_at) FROM lives")[0][0]
    back = [at - begin for at, _ in happened(campaign, "healed") if at > killed]
    end = happened(campaign, "finished")[0][0] - begin
    (outage,) = learners["outages"]
    assert (outage["name"], outage["kind"]) == ("learner-1", "kill")
    assert outage["begin"] == pytest.approx(killed - begin)
    assert outage["end"] == (pytest.approx(back[0]) if back and back[0] < end else None)
    page = (campaign / "report.html").read_text()
    assert f"learner-1 was killed at {clock(killed - begin)} and " in page
    assert "Nothing that was sent is lost; every sample counts once." in page


@pytest.mark.slow
def test_states_follow_one_another_and_rates_add_up(learners: Record) -> None:
    assert [row["name"] for row in learners["rows"]] == ["learner-0", "learner-1", "syncer"]
    for row in learners["rows"]:
        edges = [edge for span in row["spans"] for edge in (span["begin"], span["end"])]
        assert edges == sorted(edges) and edges[-1] <= learners["seconds"] + 1e-6
    assert all(0 < each["longest_gap"] < learners["seconds"] for each in learners["learners"])
    assert "out" in [span["state"] for span in learners["rows"][1]["spans"]]
    width = learners["seconds"] / 48
    arrived = sum(rate * width for rates in learners["rates"].values() for rate in rates)
    # The last steps of a killed life may have reached other fragments, but not the one that rates are taken from.
    lost = 64 * learners["steps_in_part"] * 2
    assert 64_000 - lost - 1e-6 <= arrived <= 64_000 + 1e-6


@pytest.mark.slow
def test_the_page_says_nothing_about_what_several_learners_do_not_record(campaign: Path) -> None:
    page = (campaign / "report.html").read_text()
    assert page.index("<h2>Learners</h2>") < page.index("<h2>Learning</h2>")
    assert "by 2 learners of 1 thread each on" in page
    assert "The holdouts are scored once, at the end." in page
    for absent in ("Gradient norm", "MFU", "nothing recorded", "time outside the step", "None"):
        assert absent not in page
    for svg in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)


@pytest.mark.slow
def test_a_report_without_its_merge_log_is_still_one(campaign: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(campaign, tmp_path / "copy"))
    shutil.rmtree(copy / "learners")
    run_report(copy, ())
    page = (copy / "report.html").read_text()
    assert "<h2>Learners</h2>" not in page and "by 2 learners" in page and "MFU" not in page
    assert json.loads((copy / "report.json").read_text())["learners"] is None


@pytest.mark.slow
def test_the_section_opens_in_a_browser(campaign: Path, tmp_path: Path) -> None:
    browser, shot = open_browser(tmp_path / "profile"), tmp_path / "report.png"
    browser.screenshot(campaign / "report.html", shot)
    assert shot.stat().st_size > 40_000
    content = browser.content(campaign / "report.html")
    assert "Who did what when" in content and "dead or given up" in content


# Hand-made ones


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
    # 8 bytes a value and step for two of them: half the values each way round, twice, in 4 bytes.
    assert data_parallel_bytes_per_token(1000, 2, 64) == 4 * 1000 / 64
    assert data_parallel_bytes_per_token(1000, 1, 64) == 0
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
