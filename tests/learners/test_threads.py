"""Threads whose death is noticed, and that a process waits for before it ends."""

import threading

import pytest

from tenfold.core.errors import TenfoldError
from tenfold.learners.threads import WatchedThread, join_threads


def test_what_a_thread_fails_of_is_raised_where_it_is_asked() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    thread = WatchedThread("uplink", fail)
    thread.join()
    with pytest.raises(TenfoldError, match=r"thread uplink failed \(ValueError: no such thing\)"):
        thread.check()


def test_all_threads_are_waited_for() -> None:
    go = threading.Event()
    threads = [WatchedThread(f"wait-{number}", lambda: go.wait() and None) for number in range(3)]
    assert all(thread.is_alive for thread in threads)
    threading.Timer(0.05, go.set).start()
    join_threads(threads, 60)
    assert not any(thread.is_alive for thread in threads)


def test_threads_that_stay_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    go = threading.Event()
    done, stays = WatchedThread("done", lambda: None), WatchedThread("stays", lambda: go.wait() and None)
    done.join()
    join_threads([done, stays], 0.01)
    go.set()
    stays.join()
    error = capsys.readouterr().err
    assert "stays" in error and "done" not in error
