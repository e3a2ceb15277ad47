"""Locks on files, which the kernel drops when the process that holds one ends, in whatever way."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenfold.core.errors import InputError, TenfoldError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` alone, and so the folder it lies in.

    Raises TenfoldError naming the process that holds it, InputError when the folder cannot be written.
    """
    with exclusive_if_free(path) as held:
        if not held:
            owner = path.read_text(encoding="utf-8").strip() or "unknown"
            raise TenfoldError(f"{path.parent}: process {owner} is working here; wait for it or stop it")
        yield


@contextmanager
def exclusive_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` unless another process does; tells whether it is held.

    Raises InputError when the folder cannot be written.
    """
    try:
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write here ({error.strerror}); choose another directory") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield True
