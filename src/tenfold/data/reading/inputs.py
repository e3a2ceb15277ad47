"""One file to read, on this machine or at a URL that fsspec knows."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from tenfold.core import InputError
from tenfold.data.reading.decompress import SUFFIXES as COMPRESSED

SPECIAL = {
    stat.S_IFIFO: "a FIFO (named pipe)",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""Where fsspec's file systems say which version of a file they have."""


@dataclass(frozen=True, order=True)
class InputFile:
    """A file as it was when it was listed. `name` is an absolute or relative path, or a URL."""

    name: str
    size: int
    stamp: int | str
    """Time of the last change in nanoseconds; of a URL what its store gives instead."""

    @classmethod
    def local(cls, path: Path) -> "InputFile":
        """A file of this machine. Raises OSError."""
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns)

    @property
    def is_local(self) -> bool:
        """Whether the name is a path."""
        return not is_url(self.name)

    def has_suffix(self, *suffixes: str) -> bool:
        """Whether the name ends so, in any case; what it was compressed with does not count."""
        name = self.name.lower()
        for compressed in COMPRESSED:
            name = name.removesuffix(compressed)
        return name.endswith(suffixes)

    def shown(self, base: Path) -> str:
        """The name for people: below `base` relative to it."""
        path = Path(self.name)
        return str(path.relative_to(base)) if self.is_local and path.is_relative_to(base) else self.name

    def fingerprint(self, base: Path) -> tuple[str, int, int | str]:
        """Name, size and stamp; the name relative to the campaign, from wherever the command was given."""
        if not self.is_local:
            return self.name, self.size, self.stamp
        real, root = Path(self.name).absolute().resolve(), base.resolve()
        return str(real.relative_to(root) if real.is_relative_to(root) else real), self.size, self.stamp

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """The bytes as they are stored. Raises OSError, also for what is no file: opening a FIFO never waits."""
        if self.is_local:
            with open_regular(Path(self.name)) as stream:
                yield stream
        else:
            with remote_errors(self.name), fsspec.open(self.name, "rb") as stream:
                yield stream


def open_regular(path: Path) -> IO[bytes]:
    """Open a file, and nothing that only looks like one. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    stream = os.fdopen(descriptor, "rb")
    if (what := special_file(os.fstat(descriptor).st_mode)) is not None:
        stream.close()
        raise OSError(0, f"{what}, not a file", str(path))
    return stream


def special_file(mode: int) -> str | None:
    """What a path is if it is no regular file."""
    return None if stat.S_ISREG(mode) else SPECIAL.get(stat.S_IFMT(mode), "no regular file")


def is_url(name: str) -> bool:
    """Whether a name is a URL, as s3://bucket/texts is."""
    scheme, mark, _ = name.partition("://")
    return bool(mark) and scheme.replace("+", "").replace("-", "").isalnum()


def list_url(pattern: str, key: str) -> list[InputFile]:
    """Files at a URL, below it where it is a folder, or that match its glob; hidden ones are left out.

    Raises InputError naming `key` where there are none, or the store cannot be reached.
    """
    try:
        with remote_errors(pattern):
            system, path = fsspec.core.url_to_fs(pattern)
            system.invalidate_cache()  # a store lists what was there before
            found: dict[str, dict[str, Any]] = (
                system.glob(path, detail=True) if "*" in path or "?" in path else system.find(path, detail=True)
            )
    except (ImportError, ValueError) as error:
        raise InputError(f"{key}: {pattern}: {error}") from error
    except OSError as error:
        raise InputError(f"{key}: {pattern}: cannot be listed ({error.strerror or error})") from error
    files = sorted(
        InputFile(system.unstrip_protocol(name), int(info.get("size") or 0), _stamp(info))
        for name, info in found.items()
        if info.get("type", "file") == "file" and not any(part.startswith(".") for part in name.split("/"))
    )
    if not files:
        raise InputError(f"{pattern}: no such file, or nothing to read there; {key} takes files, folders, globs")
    return files


def _stamp(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in STAMPS if info.get(key)), "")


@contextmanager
def remote_errors(name: str) -> Iterator[None]:
    """What a store's client raises, as OSError: some have exceptions of their own."""
    try:
        yield
    except (OSError, ImportError, ValueError, GeneratorExit):
        raise
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "adlfs"):
            raise OSError(0, f"{type(error).__name__}: {error}", name) from error
        raise
