"""Body of the process that tests fork others off: what these need is imported once. See forked.py."""

import importlib
import runpy
import sys

import tenfold.campaign.commands
import tenfold.campaign.processes
import tenfold.learners.anyone.outer_loop  # noqa: F401
from tenfold.cli import main
from tenfold.core.fork_server import serve_forks


def run() -> None:
    """`python PROGRAM.py …` where the first word is one, else `tenfold …`."""
    if sys.argv[1].endswith(".py"):
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        main()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    serve_forks(run)
