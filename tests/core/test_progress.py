"""Progress in lines with rate, share and time left."""

import pytest

from tenfold.core.console import run_console
from tenfold.core.progress import SECONDS, Progress, ProgressLines, Rate


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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
        lines(Progress("merging", 0, None, SECONDS))
        clock.now += 5
        lines(Progress("merging", 5, None, SECONDS))
    assert capsys.readouterr().err.splitlines() == [
        "data: reading",
        "data: reading: 800 records, 100/s",
        "data: tokenising",
        "data: tokenising: 2,000 documents, 100/s, 50%, ETA 20s",
        "data: merging",
        "data: merging: 5 seconds",
    ]


def test_a_rate_is_of_this_process_alone_and_unknown_at_first() -> None:
    clock = Clock()
    rate = Rate(done=50.0, clock=clock)
    assert (rate.rate(50.0), rate.eta(50.0, 100.0)) == (0.0, "ETA ?")
    clock.now += 5
    assert (rate.rate(75.0), rate.seconds_left(75.0, 100.0), rate.eta(75.0, 100.0)) == (5.0, 5.0, "ETA 5s")
    assert rate.eta(50.0, 100.0) == "ETA ?"
