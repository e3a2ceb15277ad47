"""A process of a test whose lines are read while it runs."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from tests import warm
from tests.waiting import PATIENCE_S


class LoggedProcess:
    """`tenfold WORDS…`, or the program that the first word names; both outputs go to one file."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        modules: tuple[str, ...] = (),
    ) -> None:
        """Start it. It writes to the end of `log`, where one is given; `modules` are what it needs beyond tenfold."""
        self._log = log.open("a+b") if log else TemporaryFile()  # noqa: SIM115
        self._begin = self._log.seek(0, os.SEEK_END)
        self._said: str | None = None
        self._process: subprocess.Popen[bytes] = warm.start(
            words,
            env={**os.environ, **(environment or {})},
            modules=modules,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its status, negative for a signal; None while it runs."""
        status = self._process.poll()
        if status is not None and self._said is None:
            self._said = self.said
            self._log.close()
        return status

    def wait(self) -> int:
        """Its status, once it has ended by itself or by a signal."""
        status = self._process.wait(PATIENCE_S)
        self.poll()
        return status

    @property
    def said(self) -> str:
        """What it has printed so far."""
        if self._said is not None:
            return self._said
        size = os.fstat(self._log.fileno()).st_size - self._begin
        return os.pread(self._log.fileno(), size, self._begin).decode()

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Kill it where it still runs."""
        self.send_signal(signal.SIGKILL)
        self.wait()
