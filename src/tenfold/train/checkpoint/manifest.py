"""A checkpoint described: every file with its hash, every tensor with the pieces it was cut into."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Piece:
    """A box of one tensor: where it begins in the whole, its shape, and the file that holds it."""

    file: str
    start: list[int]
    shape: list[int]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, in as many pieces as there were ranks that held a part of it."""

    shape: list[int]
    dtype: str
    pieces: list[Piece]


@dataclass(frozen=True)
class StoredFile:
    """One file of the checkpoint."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """manifest.json: written last, so a checkpoint that has one is whole unless it was damaged later."""

    step: int
    next_sample: int
    meta: dict[str, Any]
    files: dict[str, StoredFile]
    tensors: dict[str, StoredTensor]

    def to_json(self) -> bytes:
        """With a hash of its own, so that damage to it is noticed too."""
        body = asdict(self)
        return json.dumps({"sha256": _digest(body), "body": body}, sort_keys=True).encode()

    @classmethod
    def read(cls, path: Path) -> "CheckpointManifest":
        """Raises ValueError with the reason when it is missing or damaged."""
        try:
            value = json.loads(path.read_bytes())
            body = value["body"]
        except FileNotFoundError:
            raise ValueError(f"{MANIFEST} is missing") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(f"{MANIFEST} cannot be read ({error})") from None
        if value.get("sha256") != _digest(body):
            raise ValueError(f"{MANIFEST} does not match its hash")
        files = {name: StoredFile(**stored) for name, stored in body.pop("files").items()}
        tensors = {
            name: StoredTensor(stored["shape"], stored["dtype"], [Piece(**piece) for piece in stored["pieces"]])
            for name, stored in body.pop("tensors").items()
        }
        return cls(**body, files=files, tensors=tensors)

    def verify(self, directory: Path) -> None:
        """Raises ValueError naming the first file that is missing or not what was written."""
        for name, stored in self.files.items():
            path = directory / name
            if not path.is_file():
                raise ValueError(f"{name} is missing")
            if path.stat().st_size != stored.bytes:
                raise ValueError(f"{name} has {path.stat().st_size} bytes instead of {stored.bytes}")
            if sha256_of(path) != stored.sha256:
                raise ValueError(f"{name} does not match its hash")


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint found whole. `path` is what to tell people; `directory` is where its files can be read."""

    path: str
    directory: Path
    manifest: CheckpointManifest

    @property
    def step(self) -> int:
        """Steps done."""
        return self.manifest.step

    @property
    def meta(self) -> dict[str, Any]:
        """What the run said about itself."""
        return self.manifest.meta


@dataclass(frozen=True)
class Damaged:
    """A checkpoint that cannot be used, and why."""

    path: str
    reason: str
