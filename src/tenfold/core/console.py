"""What a person sees while something goes on: plain lines on stderr, and a bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class RunConsole:
    """Prints to stderr; on a terminal a progress bar stays below the lines."""

    def __init__(self, console: Console, bar: Progress | None) -> None:
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None

    def say(self, line: str) -> None:
        """One plain line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def advance(self, done: int, total: int) -> None:
        """Move the bar to `done` of `total` steps."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("train", total=total)
            self._bar.update(self._task, completed=done, total=total)


@contextmanager
def run_console(*, enabled: bool = True) -> Iterator[RunConsole]:
    """The console of a run; silent when not `enabled` (ranks other than the first)."""
    console = Console(file=sys.stderr, quiet=not enabled)
    if not (enabled and console.is_terminal):
        yield RunConsole(console, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield RunConsole(console, bar)
