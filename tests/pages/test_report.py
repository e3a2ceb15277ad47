"""The report as a whole: what it says of a run, where every record went, the configuration."""

import pytest

from tenfold.pages.report import render
from tests.pages.sample import Page, Record, base

EVIL = '<script>alert("x")</script>'


def report(**other: object) -> Record:
    return base() | other


def test_it_says_what_was_trained_on_what() -> None:
    text = Page(render(report())).text
    assert "2.1M parameters trained on 4.2M tokens (1.40 epochs of 9MB of text) in 2m01s on 2 threads of a CPU" in text


def test_each_holdout_stands_beside_the_compressors() -> None:
    page = render(report())
    assert page.count('<div class="bar model">') == 2
    assert "63% of xz" in Page(page).text  # 1.7 of 2.7
    assert page.count('style="width: 100.0%"') == 2  # the longest bar, gzip


def test_every_record_is_accounted_for() -> None:
    gone = report()["data"]["funnel"] | {"rejected": {"too short": 9}, "rejected_bytes": {"too short": 500}}
    data = report()["data"] | {"funnel": gone}
    text = Page(render(report(data=data))).text
    assert "records read 900 9M" in text and "rejected: too short 9 500" in text and "kept 700 9M" in text


def test_the_stages_of_the_build_say_what_they_took() -> None:
    stages = [
        {"stage": "read", "tasks": 12, "bytes": 90_000_000, "seconds": 4.0, "cpu_seconds": 3.0},
        {"stage": "copies", "tasks": 1, "bytes": 0, "seconds": 0.1, "cpu_seconds": 0.0},
    ]
    text = Page(render(report(data=report()["data"] | {"build": stages}))).text
    assert "read 12 90M 3.0 30M copies 1 0.0" in text
    assert "What building it took" not in Page(render(report())).text, "of a corpus that an older version built"


@pytest.mark.parametrize(
    ("config", "shown"),
    [
        ({"train": {"tokens": 5, "threads": None}}, ["train.tokens 5"]),
        ({"data": {"sources": [{"kind": "files"}, {"kind": "hf"}]}}, ["data.sources[0].kind files", "[1].kind hf"]),
        ({"data": {"sources": []}}, ["data.sources []"]),
    ],
)
def test_the_configuration_is_listed_by_its_keys(config: Record, shown: list[str]) -> None:
    text = Page(render(report(config=config))).text
    assert all(each in text for each in shown) and "train.threads" not in text


def test_incidents_are_open_and_events_folded() -> None:
    happened = {"at": 1_790_000_000.0, "kind": "restart", "message": EVIL}
    incident = happened | {"severity": "warning", "state": "closed", "verdict": "a loose cable"}
    page = render(report(incidents=[incident], events=[happened, happened]))
    assert "restart warning, closed" in Page(page).text and "a loose cable" in page
    assert "<details open>" in page and "Incidents (1)" in page and "Events (2)" in page
    assert "<script" not in page


def test_there_are_charts_of_what_was_recorded_alone() -> None:
    page = render(report(curves={}))
    assert page.count("nothing recorded") == 5 and "<svg" not in page
