"""Files that are on disk when the call returns."""

import hashlib
import os
from pathlib import Path

from tenfold.core.errors import TenfoldError


def write_durably(path: Path, data: bytes | memoryview) -> str:
    """Write whole or not at all, and sync file and folder; returns the sha256. Raises TenfoldError (disk full, …)."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TenfoldError(f"{path}: cannot be written ({error.strerror})") from error
    return hashlib.sha256(data).hexdigest()


def read_verified(path: Path, sha256: str) -> bytes:
    """What `write_durably` wrote. Raises TenfoldError when it is missing or not that."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TenfoldError(f"{path}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TenfoldError(f"{path}: does not match its hash in the merge log")
    return data


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
