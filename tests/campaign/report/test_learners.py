"""The report of a run of several learners: its figures are those of the merge log and the ledger."""

import json
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenfold.campaign import run_evaluate, run_report
from tenfold.campaign.report.learners import data_parallel_bytes_per_token
from tenfold.core.text import clock
from tests.campaign.browser import open_browser
from tests.learners.small import committed_samples, learners_campaign, total_samples, train

Record = dict[str, Any]
KILL = """
[chaos]
faults = [{ kind = "kill", target = "learner-1", at = 0.3 }]
"""


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
def test_tokens_and_steps_are_those_of_the_coordinator(campaign: Path, learners: Record) -> None:
    database = campaign / "learners" / "coordinator.sqlite"
    tokens = "SELECT name, 32 * sum(committed) FROM leases JOIN lives ON life = lives.number GROUP BY name"
    steps = "SELECT name, sum(steps), count(*) FROM lives GROUP BY name"
    assert {each["name"]: each["tokens"] for each in learners["learners"]} == dict(rows(database, tokens))
    assert [(each["name"], each["steps"], each["lives"]) for each in learners["learners"]] == rows(database, steps)
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
    # The last steps of a killed incarnation may have reached other fragments, but not the one of the rates.
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


def test_what_averaging_gradients_would_send() -> None:
    # 8 bytes a value and step for two of them: half the values each way round, twice, in 4 bytes.
    assert data_parallel_bytes_per_token(1000, 2, 64) == 4 * 1000 / 64
    assert data_parallel_bytes_per_token(1000, 1, 64) == 0
