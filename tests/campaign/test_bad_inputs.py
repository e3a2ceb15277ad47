"""Each bad input gives its one line, never a traceback, and loses nothing."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.campaign.bad_inputs import CASES, Case, needs_mount, run_case
from tests.campaign.small import copy_of, finished_campaign


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_campaign(tmp_path_factory.mktemp("finished"))


def texts_of(campaign: Path) -> str:
    """One hash over the user's own files."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted((campaign / "texts").iterdir()))).hexdigest()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_the_page_of_errors_shows_the_line(case: Case) -> None:
    page = Path(__file__).parents[2] / "docs" / "errors.md"
    row = next((line for line in page.read_text().splitlines() if line.startswith(f"| {case.what} |")), "")
    assert re.search(case.line, row.replace("\\|", "|")), f"{page.name} is out of date; run `make docs`"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_bad_input(case: Case, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs_mount(case) and os.geteuid() != 0:
        pytest.skip("no root: cannot mount a small tmpfs to fill")
    copy_of(finished, tmp_path / "my")
    monkeypatch.chdir(tmp_path)
    before = texts_of(tmp_path / "my")
    checkpoints = {path.name for path in (tmp_path / "my" / "checkpoints").iterdir()}
    status, lines = run_case(case)
    shown = "\n".join(lines)
    assert status == case.status, shown
    assert "Traceback" not in shown
    assert re.search(case.line, shown), shown
    if status:
        assert lines[-1].startswith("error: ") and re.search(case.line, lines[-1])
    assert texts_of(tmp_path / "my") == before
    if (tmp_path / "my" / "train.json").exists():
        assert {path.name for path in (tmp_path / "my" / "checkpoints").iterdir()} >= checkpoints
