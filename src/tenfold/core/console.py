"""What a person sees while something goes on: log lines on stderr, and a bar below them on a terminal.

Every line is a record of the logger "tenfold", so a program that uses tenfold as a library can send it elsewhere.
`TENFOLD_LOG_LEVEL` (debug, info, warning, error) sets how much is shown; info is the default.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from tenfold.core.errors import InputError

LOGGER = "tenfold"
LEVEL_VARIABLE = "TENFOLD_LOG_LEVEL"
LEVELS = ("debug", "info", "warning", "error")
PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}


class RunConsole:
    """Logs lines; on a terminal a progress bar stays below them."""

    def __init__(self, logger: logging.Logger, bar: Bar | None = None) -> None:
        self._logger = logger
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        """Print a line as it is, without a level before it."""
        self._logger.info("%s", line)

    def warn(self, line: str) -> None:
        """One line that starts with "warning:"."""
        self._logger.warning("%s", line)

    def debug(self, line: str) -> None:
        """One line for whoever asked for more."""
        self._logger.debug("%s", line)

    def advance(self, done: float, total: float | None, what: str = "train") -> None:
        """Move the bar of `what` to `done` of `total`."""
        if self._bar is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def take_away(self, what: str) -> None:
        """Remove the bar of `what`, if there is one."""
        if self._bar is not None and what in self._tasks:
            self._bar.remove_task(self._tasks.pop(what))

    @contextmanager
    def capturing(self, name: str) -> Iterator[int]:
        """The file descriptor to give a child process as its output: each line it writes is logged as `name: line`.

        The lines end when the last process that holds the descriptor has ended; then this block can be left.
        """
        reading, writing = os.pipe()
        follower = threading.Thread(target=self._follow, args=(name, os.fdopen(reading, "rb")), daemon=True)
        follower.start()
        try:
            yield writing
        finally:
            os.close(writing)
            follower.join()

    def _follow(self, name: str, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                self.say(f"{name}: {line.decode(errors='replace').rstrip()}")


class _Lines(logging.Handler):
    """Prints records as plain lines above the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, which holds this handler's lock."""
        line = PREFIXES.get(record.levelno, "") + record.getMessage()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def run_console(*, enabled: bool = True) -> Iterator[RunConsole]:
    """The console of a run; silent when not `enabled` (ranks other than the first).

    Raises InputError when TENFOLD_LOG_LEVEL is no level.
    """
    console = Console(file=sys.stderr, quiet=not enabled)
    with _handled_by(_Lines(console)) as logger:
        if not (enabled and console.is_terminal):
            yield RunConsole(logger)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            yield RunConsole(logger, bar)


@contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[logging.Logger]:
    """tenfold's logger with this handler alone; the ones before come back at the end."""
    logger = logging.getLogger(LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(log_level())
    try:
        yield logger
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])


def log_level() -> int:
    """The level that TENFOLD_LOG_LEVEL names. Raises InputError when it is none of LEVELS."""
    name = os.environ.get(LEVEL_VARIABLE, "info").lower()
    if name not in LEVELS:
        raise InputError(f"{LEVEL_VARIABLE} = {name!r}: allowed are {', '.join(LEVELS)}")
    return int(getattr(logging, name.upper()))
