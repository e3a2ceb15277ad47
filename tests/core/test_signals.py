"""A first signal asks, a second one is served as before, and one that came too late is not lost."""

import os
import signal
import subprocess
import sys

import pytest

from tenfold.core.signals import stop_on_signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_is_raised_again_at_the_end(number: signal.Signals) -> None:
    heard: list[int] = []
    before = signal.signal(number, lambda got, _: heard.append(got))
    try:
        with stop_on_signal() as stop:
            assert not stop.is_set
            os.kill(os.getpid(), number)
            assert stop.is_set and stop.signal_name == number.name
            assert heard == []
        assert heard == [number]
        os.kill(os.getpid(), number)
        assert heard == [number, number], "the handler of before is back"
    finally:
        signal.signal(number, before)


def test_the_second_signal_stops_at_once() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda got, _: heard.append(got))
    try:
        with stop_on_signal():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


LATE = """
import os, signal
from tenfold.core.signals import stop_on_signal
with stop_on_signal() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
print("not reached")
"""


def test_a_process_that_did_not_serve_it_ends_by_it() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_an_error_inside_restores_the_handlers() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stop_on_signal():
        raise KeyError("x")
    assert signal.getsignal(signal.SIGTERM) is before
