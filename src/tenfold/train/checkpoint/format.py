"""A checkpoint's format: files with their hashes, tensors with the pieces they were cut into, a hash over tensors.

A rank saves the box of each tensor that it holds; any number of ranks can fill their boxes from the pieces.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from tenfold.core import digest_of, digest_of_file

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
        return json.dumps({"sha256": digest_of(body), "body": body}, sort_keys=True).encode()

    @classmethod
    def read(cls, path: Path) -> "CheckpointManifest":
        """Raises ValueError with the reason when it is missing or damaged."""
        try:
            return cls.from_json(path.read_bytes())
        except FileNotFoundError:
            raise ValueError(f"{MANIFEST} is missing") from None
        except OSError as error:
            raise ValueError(f"{MANIFEST} cannot be read ({error})") from None

    @classmethod
    def from_json(cls, content: bytes) -> "CheckpointManifest":
        """From what `to_json` gives. Raises ValueError with the reason when it is damaged."""
        try:
            value = json.loads(content)
            body = value["body"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{MANIFEST} cannot be read ({error})") from None
        if value.get("sha256") != digest_of(body):
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
            if digest_of_file(path) != stored.sha256:
                raise ValueError(f"{name} does not match its hash")


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


@dataclass(frozen=True)
class Box:
    """The part of a tensor of shape `whole` that this rank holds: it begins at `start`; `local` is the memory."""

    whole: list[int]
    start: list[int]
    local: Tensor
    replicated: bool
    """Whether every rank holds the same, so that one of them is enough to save it."""


def box_of(tensor: Tensor) -> Box:
    """The box of a tensor, plain or sharded along one dimension of a one-dimensional mesh (FSDP2)."""
    whole = list(tensor.shape)
    if not isinstance(tensor, DTensor):
        return Box(whole, [0] * len(whole), tensor, replicated=True)
    (placement,) = tensor.placements
    local = tensor.to_local()
    if not isinstance(placement, Shard):
        return Box(whole, [0] * len(whole), local, replicated=True)
    start = [0] * len(whole)
    size = whole[placement.dim]
    chunk = -(-size // tensor.device_mesh.size())  # as torch.chunk cuts
    start[placement.dim] = min(tensor.device_mesh.get_local_rank() * chunk, size)
    return Box(whole, start, local, replicated=False)


def fill(box: Box, stored: StoredTensor, name: str, directory: Path) -> None:
    """Copy into `box.local` what the pieces hold of it. Raises ValueError when they do not cover it."""
    filled = 0
    for piece in stored.pieces:
        filled += _copy_overlap(box, piece, name, directory)
    if filled != box.local.numel():
        raise ValueError(f"{name}: its pieces hold {filled} of {box.local.numel()} elements")


def _copy_overlap(box: Box, piece: Piece, name: str, directory: Path) -> int:
    starts = [max(ours, theirs) for ours, theirs in zip(box.start, piece.start, strict=True)]
    ends = [
        min(ours + size, theirs + length)
        for ours, size, theirs, length in zip(box.start, box.local.shape, piece.start, piece.shape, strict=True)
    ]
    if any(end <= start for start, end in zip(starts, ends, strict=True)):
        return 0
    with safe_open(directory / piece.file, framework="pt") as file:
        if not starts:  # a scalar has no slices
            part = file.get_tensor(name)
        else:
            theirs = zip(starts, ends, piece.start, strict=True)
            part = file.get_slice(name)[tuple(slice(a - o, b - o) for a, b, o in theirs)]
    ours = tuple(slice(a - o, b - o) for a, b, o in zip(starts, ends, box.start, strict=True))
    target = box.local[ours]
    with torch.no_grad():
        target.copy_(part)
    return target.numel()


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in order of name. Sharded tensors are gathered one at a time."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        whole = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu().contiguous()
        digest.update(f"{name}\0{whole.dtype}\0{list(whole.shape)}\0".encode())
        digest.update(whole.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
