"""Where a build keeps what it is working on: a folder, or any place that fsspec reaches. Files are written whole."""

import os
import shutil
from pathlib import Path
from typing import Protocol

from tenfold.core import InputError, TenfoldError, write_bytes


class WorkFiles(Protocol):
    """Named files, each written once and whole. Names have `/` between their parts."""

    address: str
    """What `open_work` opens again, also in another process."""

    durable: bool
    """Whether what is written survives a power cut, and not only the end of this process."""

    def write(self, name: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Write a file; a reader sees all of it or none. Raises TenfoldError when it cannot be written."""

    def read(self, name: str) -> bytes:
        """A file's content. Raises FileNotFoundError."""

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """`size` bytes of a file from `start` on."""

    def names(self, folder: str) -> set[str]:
        """Names of the files in a folder, without the folder's; empty where there is none."""

    def fetch(self, name: str, path: Path) -> None:
        """Move or copy a file to a place on this machine."""

    def clear(self, first: str) -> None:
        """Delete everything, one file before all others."""


def open_work(address: str) -> WorkFiles:
    """The store at a path or URL. Raises InputError when fsspec cannot reach it."""
    return RemoteWork(address) if "://" in address else LocalWork(Path(address))


class LocalWork:
    """A folder of this machine, or one that machines share."""

    def __init__(self, folder: Path) -> None:
        self.address, self._folder, self.durable = str(folder), folder, True

    def write(self, name: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Write a file. What refuses is said of the folder: nobody knows its files."""
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data, durable=durable or self.durable)
        except (OSError, TenfoldError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            why = cause.strerror if isinstance(cause, OSError) else error
            raise TenfoldError(
                f"{self._folder}: the build's own files, about three times the text, cannot be written ({why}); make "
                "room there or set data.work to a folder that has room, then run again: what is done stays done"
            ) from error

    def read(self, name: str) -> bytes:
        """A file's content."""
        return (self._folder / name).read_bytes()

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """A part of a file."""
        with (self._folder / name).open("rb", buffering=0) as handle:
            return os.pread(handle.fileno(), size, start)

    def names(self, folder: str) -> set[str]:
        """Names in a folder; those of files half written begin with a dot and are left out."""
        path = self._folder / folder
        return {entry.name for entry in os.scandir(path) if entry.name[0] != "."} if path.is_dir() else set()

    def fetch(self, name: str, path: Path) -> None:
        """Move the file to `path`; across file systems it is copied."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        shutil.move(self._folder / name, temporary)
        temporary.replace(path)

    def clear(self, first: str) -> None:
        """Delete the folder."""
        (self._folder / first).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)


class RemoteWork:
    """What fsspec reaches: s3://bucket/prefix, memory://prefix and others. An object appears there whole or not."""

    def __init__(self, address: str) -> None:
        import fsspec

        self.address, self.durable = address, True
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(f"data.work: {address} cannot be opened ({error})") from error

    def write(self, name: str, data: bytes | memoryview, *, durable: bool = False) -> None:
        """Put an object; it is durable in any case."""
        try:
            self._files.pipe_file(self._at(name), bytes(data))
        except Exception as error:  # each file system has errors of its own
            raise TenfoldError(
                f"{self.address}/{name}: cannot be written ({error}); make that possible, then run again"
            ) from error

    def read(self, name: str) -> bytes:
        """An object's content."""
        return bytes(self._files.cat_file(self._at(name)))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """A part of an object."""
        return bytes(self._files.cat_file(self._at(name), start=start, end=start + size)) if size else b""

    def names(self, folder: str) -> set[str]:
        """Names of the objects in a folder."""
        try:
            found = self._files.ls(self._at(folder), detail=False)
        except FileNotFoundError:
            return set()
        return {str(name).rsplit("/", 1)[-1] for name in found}

    def fetch(self, name: str, path: Path) -> None:
        """Copy an object to a file of this machine."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        self._files.get_file(self._at(name), str(temporary))
        temporary.replace(path)

    def clear(self, first: str) -> None:
        """Delete everything below the address."""
        if self._files.exists(self._at(first)):
            self._files.rm_file(self._at(first))
        if self._files.exists(self._root):
            self._files.rm(self._root, recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"
