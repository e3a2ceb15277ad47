"""Where checkpoints lie: a folder, or anything fsspec knows by URL. Both publish whole checkpoints or nothing."""

import errno
import itertools
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.core import url_to_fs

from tenfold.core import OWNER_FILE, InputError, TenfoldError, sync_path, without_secrets
from tenfold.train.checkpoint.format import MANIFEST

WAIT_FOR_RANKS_S = 600.0
POLL_S = 0.02
NAME = re.compile(r"step-\d{8}")
HALF_NAME = re.compile(r"\.tmp-(old-)?step-\d{8}")
OURS = re.compile(r"rank-\d{5}\.(safetensors|part\.json)|manifest\.json")
"""Files of a checkpoint. Whatever else lies at the place is somebody else's: it is not counted, renamed or deleted."""
LONGEST_OWNER_FILE = 4096


class Store(Protocol):
    """The few things a checkpoint needs of the place it lies in. Names are like `step-00000100`."""

    def describe(self, name: str) -> str:
        """The checkpoint's path or URL, for people."""
        ...

    def stage(self, name: str) -> Path:
        """A local folder in which this rank writes its files."""
        ...

    def share(self, name: str, files: list[Path]) -> None:
        """Make staged files durable and visible to the first rank."""
        ...

    def listed(self, name: str, suffix: str) -> list[dict[str, Any]]:
        """The JSON objects in shared files whose names end so."""
        ...

    def publish(self, name: str, manifest: bytes) -> None:
        """Write the manifest; from now on the checkpoint exists."""
        ...

    def give_up(self, name: str) -> None:
        """Delete what was staged for a checkpoint that could not be written."""
        ...

    def names(self) -> list[str]:
        """Published checkpoints, oldest first."""
        ...

    def fetch(self, name: str) -> Path:
        """A local folder with the checkpoint's files."""
        ...

    def manifest(self, name: str) -> bytes:
        """The checkpoint's manifest alone. Raises OSError."""
        ...

    def remove(self, name: str) -> None:
        """Delete a checkpoint."""
        ...

    def set_aside(self, name: str) -> str:
        """Rename a damaged checkpoint so that it counts no more, but is still there to look at; returns where."""
        ...

    def prepare(self) -> None:
        """Delete what a killed process left half-written and see that this place can be written.

        Only for the one process that trains here: a save under way looks half-written to others. Raises OSError.
        """
        ...

    def owner(self) -> str | None:
        """Whose place this is: the name of a campaign; None before anybody has said so. Raises OSError."""
        ...

    def set_owner(self, name: str) -> None:
        """Say whose place this is. Raises OSError."""
        ...

    def close(self) -> None:
        """Delete local copies."""
        ...


def is_checkpoint(files: Iterable[str]) -> bool:
    """Whether a folder of these files is a checkpoint, or was one before it was damaged."""
    return any(OURS.fullmatch(file) and file != MANIFEST for file in files)


def is_half(files: Iterable[str]) -> bool:
    """Whether a folder of these files is a checkpoint half-written, and nothing else."""
    return all(OURS.fullmatch(file) for file in files)


def owner_from(data: bytes) -> str:
    """The name in an owner file. Raises OSError for anything else, since the place may be somebody's."""
    try:
        return str(json.loads(data[:LONGEST_OWNER_FILE])["campaign"])
    except (ValueError, KeyError, TypeError):
        why = f"{OWNER_FILE} there cannot be read; delete it if the place is this run's"
        raise OSError(errno.EINVAL, why) from None


def owner_data(name: str) -> bytes:
    """What an owner file holds."""
    return (json.dumps({"campaign": name}) + "\n").encode()


def damaged_name(name: str, taken: Callable[[str], bool]) -> str:
    """A free name for a damaged checkpoint."""
    names = (f"damaged-{name}" + (f"-{number}" if number else "") for number in itertools.count())
    return next(candidate for candidate in names if not taken(candidate))


def open_store(url: str | Path, storage_options: dict[str, Any]) -> Store:
    """The store at a path or URL. Raises InputError when it cannot be reached or written."""
    text = str(url)
    if "://" not in text or text.startswith("file://"):
        return FolderStore(Path(text.removeprefix("file://")))
    try:
        file_system, path = url_to_fs(text, **storage_options)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"checkpoint.url = {without_secrets(text)!r}: {without_secrets(str(error))}; for s3:// install it with: "
            "pip install 'tenfold[s3]'"
        ) from None
    return UrlStore(text, file_system, path)


def wait_for_ranks(store: Store, name: str, suffix: str, count: int) -> list[dict[str, Any]]:
    """What each rank wrote about its own file. Raises TenfoldError when one does not come."""
    deadline = time.monotonic() + WAIT_FOR_RANKS_S
    while len(found := store.listed(name, suffix)) < count:
        if time.monotonic() > deadline:
            raise TenfoldError(f"{store.describe(name)}: only {len(found)} of {count} ranks saved their part in time")
        time.sleep(POLL_S)
    return found


class FolderStore:
    """A folder: files are written below a temporary name, synced, and renamed together."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{root}: cannot make this folder for checkpoints ({error.strerror})") from error

    def describe(self, name: str) -> str:
        return str(self.root / name)

    def stage(self, name: str) -> Path:
        path = self._temporary(name)
        path.mkdir(exist_ok=True)
        return path

    def _temporary(self, name: str) -> Path:
        return self.root / f".tmp-{name}"

    def share(self, name: str, files: list[Path]) -> None:
        for path in files:
            sync_path(path)

    def listed(self, name: str, suffix: str) -> list[dict[str, Any]]:
        found = []
        for path in sorted(self._temporary(name).glob(f"*{suffix}")):
            try:
                found.append(json.loads(path.read_bytes()))
            except ValueError:
                continue  # still being written
        return found

    def publish(self, name: str, manifest: bytes) -> None:
        staged, final = self._temporary(name), self.root / name
        with (staged / MANIFEST).open("wb") as handle:
            handle.write(manifest)
            handle.flush()
            os.fsync(handle.fileno())
        sync_path(staged)
        if final.exists():  # of the same run, which another command has made meanwhile
            self.remove(name)
        staged.rename(final)
        sync_path(self.root)

    def give_up(self, name: str) -> None:
        shutil.rmtree(self._temporary(name), ignore_errors=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if NAME.fullmatch(path.name) and self._is_ours(path))

    @staticmethod
    def _is_ours(path: Path) -> bool:
        if path.is_symlink() or not path.is_dir():
            return False
        return is_checkpoint(file.name for file in path.iterdir())

    def fetch(self, name: str) -> Path:
        return self.root / name

    def manifest(self, name: str) -> bytes:
        return (self.root / name / MANIFEST).read_bytes()

    def remove(self, name: str) -> None:
        path = self.root / name
        if not is_half(file.name for file in path.iterdir()):  # somebody keeps files of his own in it: they stay
            (path / MANIFEST).unlink(missing_ok=True)
            for file in path.iterdir():
                if OURS.fullmatch(file.name):
                    file.unlink()
            return
        hidden = self.root / f".tmp-old-{name}"
        path.rename(hidden)  # at once, so that a kill never leaves half a checkpoint under its name
        shutil.rmtree(hidden, ignore_errors=True)

    def set_aside(self, name: str) -> str:
        aside = self.root / damaged_name(name, lambda candidate: (self.root / candidate).exists())
        (self.root / name).rename(aside)
        return str(aside)

    def prepare(self) -> None:
        for path in self.root.iterdir():
            is_left = HALF_NAME.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
            if is_left and is_half(file.name for file in path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)
        with tempfile.TemporaryFile(dir=self.root):
            pass

    def owner(self) -> str | None:
        path = self.root / OWNER_FILE
        return owner_from(path.read_bytes()) if path.exists() else None

    def set_owner(self, name: str) -> None:
        (self.root / OWNER_FILE).write_bytes(owner_data(name))

    def close(self) -> None:
        pass  # has no copies


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Every backend of fsspec raises errors of its own when it cannot be reached: one kind is enough for us."""
    try:
        yield
    except (OSError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise OSError(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        ) from error


class UrlStore:
    """Any fsspec file system: the manifest goes last, and what has none does not exist. Raises OSError alone."""

    def __init__(self, url: str, file_system: fsspec.AbstractFileSystem, path: str) -> None:
        self.url, self._fs, self._path = without_secrets(url.rstrip("/")), file_system, path.rstrip("/")
        self._local = tempfile.TemporaryDirectory(prefix="tenfold-checkpoints-")

    def describe(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _remote(self, name: str, file: str = "") -> str:
        return f"{self._path}/{name}/{file}".rstrip("/")

    def stage(self, name: str) -> Path:
        path = Path(self._local.name) / "staged" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @_as_os_errors()
    def share(self, name: str, files: list[Path]) -> None:
        for path in files:
            self._fs.put_file(str(path), self._remote(name, path.name))
            path.unlink()  # the copy here has done its work

    @_as_os_errors()
    def listed(self, name: str, suffix: str) -> list[dict[str, Any]]:
        files = [file for file in self._list(self._remote(name)) if file.endswith(suffix)]
        return [json.loads(self._fs.cat_file(file)) for file in sorted(files)]

    def _list(self, path: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return [str(file) for file in self._fs.ls(path, detail=False)]
        except FileNotFoundError:
            return []

    @_as_os_errors()
    def publish(self, name: str, manifest: bytes) -> None:
        self._fs.pipe_file(self._remote(name, MANIFEST), manifest)

    def give_up(self, name: str) -> None:
        shutil.rmtree(self.stage(name), ignore_errors=True)

    @_as_os_errors()
    def names(self) -> list[str]:
        names = [file.rstrip("/").rsplit("/", 1)[-1] for file in self._list(self._path)]
        return sorted(name for name in names if NAME.fullmatch(name) and self._is_published(name))

    def _is_published(self, name: str) -> bool:
        files = self._files(name)
        return MANIFEST in files and is_checkpoint(files)

    def _files(self, name: str) -> list[str]:
        return [file.rstrip("/").rsplit("/", 1)[-1] for file in self._list(self._remote(name))]

    @_as_os_errors()
    def fetch(self, name: str) -> Path:
        local = Path(self._local.name) / "fetched" / name
        shutil.rmtree(local, ignore_errors=True)
        local.mkdir(parents=True)
        for file in self._list(self._remote(name)):
            self._fs.get_file(file, str(local / file.rsplit("/", 1)[-1]))
        return local

    @_as_os_errors()
    def manifest(self, name: str) -> bytes:
        return bytes(self._fs.cat_file(self._remote(name, MANIFEST)))

    @_as_os_errors()
    def remove(self, name: str) -> None:
        self._fs.rm_file(self._remote(name, MANIFEST))
        self._remove_ours(name)

    def _remove_ours(self, name: str) -> None:
        """The files of a checkpoint; the folder too, where a folder is a thing and nothing else is in it."""
        files = self._files(name)
        for file in files:
            if OURS.fullmatch(file):
                self._fs.rm_file(self._remote(name, file))
        if is_half(files) and self._fs.exists(self._remote(name)):
            self._fs.rm(self._remote(name), recursive=True)

    @_as_os_errors()
    def set_aside(self, name: str) -> str:
        aside = damaged_name(name, lambda candidate: bool(self._fs.exists(self._remote(candidate))))
        self._fs.mv(self._remote(name), self._remote(aside), recursive=True)
        return self.describe(aside)

    @_as_os_errors()
    def prepare(self) -> None:
        names = [file.rstrip("/").rsplit("/", 1)[-1] for file in self._list(self._path)]
        for name in names:
            if NAME.fullmatch(name) and not self._is_published(name) and is_half(self._files(name)):
                self._remove_ours(name)
        probe = f"{self._path}/.tenfold-probe-{uuid.uuid4().hex}"
        self._fs.pipe_file(probe, b"")
        self._fs.rm_file(probe)

    @_as_os_errors()
    def owner(self) -> str | None:
        self._fs.invalidate_cache()
        try:
            return owner_from(self._fs.cat_file(f"{self._path}/{OWNER_FILE}"))
        except FileNotFoundError:
            return None

    @_as_os_errors()
    def set_owner(self, name: str) -> None:
        self._fs.pipe_file(f"{self._path}/{OWNER_FILE}", owner_data(name))

    def close(self) -> None:
        self._local.cleanup()
