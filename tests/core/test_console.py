"""One logger, its levels, and the lines of children."""

import logging
import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

from tenfold.core.console import LEVEL_VARIABLE, LOGGER, run_console
from tenfold.core.errors import InputError


def test_lines_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with run_console() as console:
        console.say("step [1/2] " + "x" * 300)
        console.warn("disk nearly full")
        console.debug("not shown")
    said = capsys.readouterr()
    assert said.err == "step [1/2] " + "x" * 300 + "\nwarning: disk nearly full\n"
    assert said.out == ""


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", ["a", "b", "warning: c"]), ("info", ["b", "warning: c"]), ("warning", ["warning: c"]), ("error", [])],
)
def test_the_level_says_how_much(
    level: str, shown: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, level)
    with run_console() as console:
        console.debug("a")
        console.say("b")
        console.warn("c")
    assert capsys.readouterr().err.splitlines() == shown


def test_a_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, "loud")
    with (
        pytest.raises(InputError, match="TENFOLD_LOG_LEVEL = 'loud': allowed are debug, info, warning, error"),
        run_console(),
    ):
        pass


def test_a_silent_console_says_nothing_and_the_outer_one_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger(LOGGER).handlers[:]
    with run_console() as outer:
        with run_console(enabled=False) as quiet:
            quiet.say("hidden")
            quiet.advance(1, 2)
        outer.say("shown")
    assert capsys.readouterr().err == "shown\n"
    assert logging.getLogger(LOGGER).handlers == before


def test_what_children_print_is_captured_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); print('no end', end='')"
    with run_console() as console, console.capturing("learner-0") as output:
        subprocess.run([sys.executable, "-c", program], stdout=output, stderr=output, check=True)
    assert capsys.readouterr().err == "learner-0: out\nlearner-0: err\nlearner-0: no end\n"


BAR = """
from tenfold.core.console import run_console
with run_console() as console:
    for step in range(3):
        console.advance(step, 3)
        console.say(f"line {step}")
    console.advance(3, 3)
    console.take_away("train")
    console.take_away("never there")
"""


def test_on_a_terminal_lines_stay_above_the_bar() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", BAR], stderr=theirs, env=environment) as program:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # Linux: EIO when the other side is closed
            while piece := os.read(ours, 4096):
                said += piece
    os.close(ours)
    assert program.returncode == 0
    assert [said.index(f"line {step}".encode()) for step in range(3)] == sorted(
        said.index(f"line {step}".encode()) for step in range(3)
    )
    assert b"train" in said and b"/3" in said
