"""A forked process ends with the status that it would have had by itself."""

import os
import sys
from pathlib import Path

import pytest

from tenfold.core.fork_server import ForkServer
from tests.waiting import until

PROGRAM = """
import sys
from tenfold.core.fork_server import serve_forks

ENDS = {"none": None, "zero": 0, "two": 2, "words": "a line"}
serve_forks(lambda: sys.exit(ENDS[sys.argv[1]]))
"""


@pytest.mark.parametrize(("word", "status"), [("none", 0), ("zero", 0), ("two", 2), ("words", 1)])
def test_a_fork_ends_with_its_own_status(tmp_path: Path, word: str, status: int) -> None:
    server = ForkServer((sys.executable, "-c", PROGRAM))
    try:
        with (tmp_path / "log").open("wb") as log:
            process = server.fork([word], {}, log)
        assert process is not None
        pid = process.pid
        until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
        assert process.wait() == status
        process.stdin.close()
    finally:
        server.close()
