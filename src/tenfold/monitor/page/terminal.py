"""`tenfold watch --tui`: the page in a terminal, where textual is installed and there is a terminal."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tenfold.core import InputError

NO_TEXTUAL = "--tui needs textual: pip install 'tenfold[tui]'"
NO_TERMINAL = "--tui needs a terminal; without it the page is served to a browser"


def watch_terminal(campaigns: Sequence[Path]) -> None:
    """Show these campaigns until q. Raises InputError without textual or a terminal, and as LedgerWatch does."""
    try:
        from tenfold.monitor.page.tui import watch_in_terminal
    except ImportError as error:
        if (error.name or "").split(".")[0] != "textual":
            raise
        raise InputError(NO_TEXTUAL) from error
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(NO_TERMINAL)
    watch_in_terminal(campaigns)
