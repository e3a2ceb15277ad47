"""Folders that are made once in a run of the tests, whichever of its processes comes first, and removed at its end."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def shared_folder() -> Path:
    """Of this run of the tests: what all its processes see."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    return Path(tempfile.gettempdir()) / f"tenfold-tests-{run}"


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, made by `make` where it is not there yet. Nobody may change it: copy it."""
    folder, done = shared_folder() / name, shared_folder() / f"{name}.made"
    shared_folder().mkdir(exist_ok=True)
    with (shared_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a test that was interrupted here
            make(folder)
            done.touch()
    return folder
