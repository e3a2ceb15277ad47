"""The command line: one thin command per verb, no logic.

Commands import what they need when they run, so that `tenfold --help` answers at once.
"""

from tenfold.cli.program import app, main

__all__ = ["app", "main"]
