"""Odd inputs: nothing is lost in silence, and the page shows what the console says."""

import re
from pathlib import Path

import pytest

from tests.data.odd_inputs import CASES, OddInput, run_odd

PAGE = Path(__file__).parents[2] / "docs" / "odd_inputs.md"
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)


@EACH
def test_the_console_says_what_became_of_it(case: OddInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, lines = run_odd(case)
    shown = "\n".join(lines)
    assert status == case.status, shown
    for line in case.lines:
        assert re.search(line, shown, re.M), shown
    if status == 0:
        assert "data: read " in shown


@EACH
def test_the_page_shows_it(case: OddInput) -> None:
    row = next((line for line in PAGE.read_text().splitlines() if line.startswith(f"| {case.what} |")), "")
    shown = row.replace("\\|", "|").replace("`<br>`", "\n").removesuffix("` |")
    for line in case.lines:
        assert re.search(line, shown, re.M), f"{PAGE.name} is out of date; run `make docs`"


def test_names_of_cases_differ() -> None:
    assert len({case.what for case in CASES}) == len(CASES) >= 40
