"""One logger, its levels, the lines of children; progress with rate and time left."""

import logging
import subprocess
import sys

import pytest

from tenfold.core.console import LEVEL_VARIABLE, LOGGER, run_console
from tenfold.core.errors import InputError
from tenfold.core.progress import Progress, ProgressLines, Rate


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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


def test_progress_tells_stage_rate_share_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with run_console() as console:
        lines = ProgressLines(console, every=5.0, clock=clock)
        lines(Progress("reading", 0, None, "records"))
        clock.now += 4
        lines(Progress("reading", 400, None, "records"))  # too early for a line
        clock.now += 4
        lines(Progress("reading", 800, None, "records"))
        tell = lines.counter("tokenising", "documents")
        tell(1000, 4000)
        clock.now += 10
        tell(2000, 4000)
    assert capsys.readouterr().err.splitlines() == [
        "data: reading",
        "data: reading: 800 records, 100/s",
        "data: tokenising",
        "data: tokenising: 2,000 documents, 100/s, 50%, ETA 20s",
    ]


def test_a_rate_is_of_this_process_alone_and_unknown_at_first() -> None:
    clock = Clock()
    rate = Rate(done=50.0, clock=clock)
    assert (rate.rate(50.0), rate.eta(50.0, 100.0)) == (0.0, "ETA ?")
    clock.now += 5
    assert (rate.rate(75.0), rate.seconds_left(75.0, 100.0), rate.eta(75.0, 100.0)) == (5.0, 5.0, "ETA 5s")
    assert rate.eta(50.0, 100.0) == "ETA ?"
