"""sha256 in hex, of values, bytes and files. These digests are saved in campaign folders: their bits never change."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def digest_of(value: Any) -> str:
    """sha256 over a JSON value, independent of the order of keys."""
    return digest_of_bytes(json.dumps(value, sort_keys=True).encode())


def digest_of_bytes(data: bytes | bytearray | memoryview) -> str:
    """sha256 over bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """sha256 over a file's content, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """sha256 over names below `root` and contents, in order of path."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
