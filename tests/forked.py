"""Processes of tests that import nothing: forked off one that has, since importing costs more than most tests do.

Each is a process of its own, with its own memory, files, signals and end. Only that it was started is not shown: some
test starts the same command as a user does.
"""

import atexit
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from tenfold.core.fork_server import ForkServer
from tests.waiting import until

SERVER = Path(__file__).with_name("forked_server.py")


@cache
def _server(modules: tuple[str, ...]) -> ForkServer:
    server = ForkServer((sys.executable, str(SERVER), *modules))
    atexit.register(server.close)
    return server


class Forked:
    """`tenfold WORDS…`, or `python PROGRAM.py …` where the first word is one."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        modules: tuple[str, ...] = (),
    ) -> None:
        """Start it; both outputs go to one file, at the end of `log` where one is given.

        `modules` are what it imports beyond tenfold.
        """
        self._log = log.open("a+b") if log else TemporaryFile()  # noqa: SIM115
        self._log.seek(0, os.SEEK_END)
        self._begin = self._log.tell()
        self._said: str | None = None
        process = _server(modules).fork(words, environment or {}, self._log)
        assert process is not None, "the fork server is gone"
        self.pid, self._input = process.pid, process.stdin
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its status, negative for a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self._said = self.said
                self._input.close()
                self._log.close()
        return self.returncode

    def wait(self) -> int:
        """Its status, once it has ended by itself or by a signal."""
        until(lambda: self.poll() is not None)
        assert self.returncode is not None
        return self.returncode

    @property
    def said(self) -> str:
        """What it has printed so far."""
        if self._said is not None:
            return self._said
        size = os.fstat(self._log.fileno()).st_size - self._begin
        return os.pread(self._log.fileno(), size, self._begin).decode()

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Kill it where it still runs."""
        self.send_signal(signal.SIGKILL)
        self.wait()
