"""Files written whole or not at all, and read back; small results kept in the user's cache.

Every writer here writes a temporary file beside its target and renames it, so that a reader sees the old content or the
new one. Two durabilities: `durable=True` syncs file and folder, so that what was written survives a power cut;
`durable=False` survives the end of this process, also by SIGKILL, and nothing more.
"""

import errno
import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tenfold.core.errors import TenfoldError

REMEDIES = {
    errno.ENOSPC: "make room, then run again",
    errno.EDQUOT: "make room, then run again",
    errno.EFBIG: "make room, then run again",
    errno.ENOENT: "make its folder first",
    errno.ENOTDIR: "name another file",
    errno.EISDIR: "name another file",
    errno.EACCES: "allow writing there, or choose another place",
    errno.EPERM: "allow writing there, or choose another place",
    errno.EROFS: "allow writing there, or choose another place",
}
OTHER_REMEDY = "look at that disk, then run again"


def write_bytes(path: Path, data: bytes | memoryview, *, durable: bool = True) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises TenfoldError, naming the remedy, when the disk refuses; what was there before is still there then.
    """
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}.tmp")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            if durable:
                handle.flush()
                os.fsync(handle.fileno())
        temporary.replace(path)
        if durable:
            sync_path(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TenfoldError(f"{path}: cannot be written ({error.strerror}); {remedy_for(error)}") from error


def remedy_for(error: OSError) -> str:
    """What to do about a disk that refused."""
    return REMEDIES.get(error.errno or 0, OTHER_REMEDY)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write `text` as UTF-8, like `write_bytes`."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write an object as JSON, like `write_bytes`."""
    write_text(path, json.dumps(value, indent=1) + "\n", durable=durable)


def sync_path(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None when it is missing or holds no JSON object, so that its stage is run again.

    Raises TenfoldError when the file is there and cannot be read.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise TenfoldError(f"{path}: cannot be read ({error.strerror}); allow reading it, or delete it") from error
    return value if isinstance(value, dict) else None


def read_bounded(path: Path, limit: int) -> bytes:
    """Content of a small file.

    Raises TenfoldError when it cannot be read, is no plain file (a pipe would be waited for), or has more than `limit`
    bytes.
    """
    try:
        if not path.is_file():
            raise TenfoldError(f"{path}: not a file")
        with path.open("rb") as handle:
            data = handle.read(limit + 1)
    except OSError as error:
        raise TenfoldError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise TenfoldError(f"{path}: larger than the {limit:,} bytes that are read of such a file")
    return data


def user_cache(name: str) -> Path:
    """Path of a file in the user's cache: below XDG_CACHE_HOME, by default ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tenfold" / name


def read_user_cache(name: str) -> dict[str, Any]:
    """The object kept in the user's cache under `name`; empty when there is none that can be read."""
    with suppress(TenfoldError):
        return read_json(user_cache(name)) or {}
    return {}


def write_user_cache(name: str, value: Mapping[str, Any]) -> None:
    """Keep an object in the user's cache. A home that cannot be written only means making it again next time."""
    path = user_cache(name)
    with suppress(OSError, TenfoldError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value, durable=False)
