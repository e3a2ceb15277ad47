"""Locks on files, which the kernel drops when the process that holds one ends, in whatever way."""

import errno
import fcntl
import os
import stat
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

    Raises InputError when the folder cannot be written, or when something else than a lock file has that name.
    """
    with os.fdopen(_opened(path), "r+", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield True


def _opened(path: Path) -> int:
    """A descriptor of the lock file: never of what a link leads to, since what is in it is overwritten."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise InputError(f"{path}: not a lock file of tenfold; delete it, then run again") from error
        raise InputError(f"{path.parent}: cannot write here ({error.strerror}); choose another directory") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise InputError(f"{path}: not a lock file of tenfold; delete it, then run again")
    return descriptor
