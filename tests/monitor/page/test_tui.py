"""The page in a terminal: drawn by textual without a terminal; one line where it cannot be."""

import asyncio
import importlib.util
from pathlib import Path

import pytest

from tenfold.core import InputError
from tenfold.ledger import Ledger
from tenfold.monitor.page import terminal
from tests import warm
from tests.monitor.page.ledgers import rows, write_run

HAS_TEXTUAL = importlib.util.find_spec("textual") is not None
needs_textual = pytest.mark.skipif(not HAS_TEXTUAL, reason="the Python package textual (extra tui) is not installed")


def test_without_textual_one_line_says_what_to_install(tmp_path: Path) -> None:
    done = warm.run(["watch", str(tmp_path), "--tui"])
    expected = terminal.NO_TERMINAL if HAS_TEXTUAL else terminal.NO_TEXTUAL
    assert (done.returncode, done.stderr) == (2, f"error: {expected}\n")


@needs_textual
def test_loss_learners_incidents_and_log_are_shown_and_follow_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, 200, done=False)

    async def look() -> None:
        from textual.widgets import DataTable, Static

        from tenfold.monitor.page.tui import TerminalPage

        app = TerminalPage([tmp_path])
        async with app.run_test(size=(120, 50)) as pilot:
            await pilot.pause()
            assert "step 200" in str(app.query_one("#head", Static).render())
            drawn = str(app.query_one("#loss", Static).render())
            assert all(sign in drawn for sign in "│●░▲")
            assert app.query_one("#learners", DataTable).row_count == 4
            assert app.query_one("#incidents", DataTable).row_count == 3
            assert "resumed at step" in str(app.query_one("#lines", Static).render())
            ledger = Ledger(tmp_path / "ledger.sqlite")
            ledger.log(run, rows(201, 210, 200))
            app.refresh_all()
            assert "step 210" in str(app.query_one("#head", Static).render())
            await pilot.press("n")
            await pilot.press("q")

    asyncio.run(look())


@needs_textual
def test_no_campaign_is_one_line(tmp_path: Path) -> None:
    from tenfold.monitor.page.tui import TerminalPage

    with pytest.raises(InputError, match="no campaign here"):
        TerminalPage([tmp_path])
