"""Save while training goes on, find the newest checkpoint that is whole, load it into any number of ranks."""

import json
import re
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tenfold.core import OWNER_FILE, InputError, TenfoldError, digest_of_file, remedy_for, without_secrets
from tenfold.train.checkpoint.format import (
    MANIFEST,
    Box,
    Checkpoint,
    CheckpointManifest,
    Damaged,
    Piece,
    StoredFile,
    StoredTensor,
    box_of,
    fill,
)
from tenfold.train.checkpoint.stores import open_store, wait_for_ranks

PART = ".part.json"  # what a rank says about its own file


@dataclass(frozen=True)
class CheckpointState:
    """Everything needed to go on. `next_sample` is the whole state of the data."""

    tensors: Mapping[str, Tensor]
    step: int
    next_sample: int
    meta: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint, and the newer ones that are damaged."""

    checkpoint: Checkpoint | None
    damaged: list[Damaged]


class Checkpointer:
    """Checkpoints of one run at a path or fsspec URL. One per rank; the first rank publishes and prunes.

    Use it in a `with`, which ends when the last save is on disk.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        keep_last: int,
        keep_every: int | None = None,
        keep_steps: Collection[int] = (),
        storage_options: Mapping[str, Any] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.url = without_secrets(str(url))
        self._owner: str | None = None
        self._store = open_store(url, dict(storage_options or {}))
        self._keep_last, self._keep_every, self._keep_steps = keep_last, keep_every, frozenset(keep_steps)
        self._rank, self._world_size = rank, world_size
        self._kept: int | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()
        self._store.close()

    def prepare(self, owner: str | None = None) -> None:
        """Before training: see that no other campaign keeps its checkpoints here, delete what was left half-written.

        `owner` names the campaign. Raises InputError when this place is another one's, or cannot be written.
        """
        self._owner = owner
        if self._rank == 0:
            try:
                self._check_owner(claim=not self._store.names())
                self._store.prepare()
            except OSError as error:
                raise InputError(f"{self.url}: checkpoints cannot be written here ({_reason(error)})") from error

    def _check_owner(self, *, claim: bool) -> None:
        """One place is one campaign's: another would overwrite its checkpoints, and prune them."""
        if self._owner is None:
            return
        found = self._store.owner()
        if found == self._owner or (claim and found is None):
            if found is None:
                self._store.set_owner(self._owner)
        elif found is not None:
            raise InputError(
                f"{self.url}: campaign {found!r} keeps its checkpoints here; set checkpoint.url to a place that is "
                f"{self._owner!r}'s alone. If {found!r} is its former name, delete {OWNER_FILE} there"
            )

    def save(self, state: CheckpointState) -> None:
        """Copy the state and write it in the background. Raises what went wrong with the save before."""
        self.wait()
        boxes = {
            name: Box(box.whole, box.start, box.local.detach().to("cpu", copy=True).contiguous(), box.replicated)
            for name, box in ((name, box_of(tensor)) for name, tensor in state.tensors.items())
            if self._rank == 0 or not box.replicated
        }
        self._under_way = self._writer.submit(self._write, boxes, state.step, state.next_sample, state.meta)

    def keep(self, step: int) -> None:
        """Keep the checkpoint after this step, there already or to come, until another one is to be kept."""
        self._kept = step

    @property
    def is_busy(self) -> bool:
        """Whether a save is under way, so that the next one would wait."""
        return self._under_way is not None and not self._under_way.done()

    @property
    def has_saved(self) -> bool:
        """Whether the last save has ended well; one that failed is told by `wait`."""
        done = self._under_way is not None and self._under_way.done()
        return done and self._under_way is not None and self._under_way.exception() is None

    def wait(self) -> None:
        """Return when the last save is on disk. Raises TenfoldError when it failed; older checkpoints stay good."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _write(self, boxes: dict[str, Box], step: int, next_sample: int, meta: dict[str, Any]) -> None:
        name = f"step-{step:08d}"
        self._refuse_if_not_finite(name, boxes)
        try:
            self._write_part(name, boxes)
            if self._rank == 0:
                parts = wait_for_ranks(self._store, name, PART, self._world_size)
                self._check_owner(claim=True)
                self._store.publish(name, _manifest_of(parts, step, next_sample, meta).to_json())
                self._prune()
        except (OSError, SafetensorError) as error:
            if self._rank == 0:
                self._store.give_up(name)
            raise TenfoldError(
                f"{self._store.describe(name)}: the checkpoint could not be written ({_reason(error)}); "
                f"the last good one is {self._newest_name()}; {_remedy(error)}"
            ) from error

    def _refuse_if_not_finite(self, name: str, boxes: Mapping[str, Box]) -> None:
        """A step may look finite and leave weights that are not; a checkpoint of them would be worth nothing."""
        for key, box in boxes.items():
            if box.local.is_floating_point() and not bool(torch.isfinite(box.local).all()):
                raise TenfoldError(
                    f"{self._store.describe(name)}: {key} holds NaN or infinity, so nothing was saved; the last good "
                    f"checkpoint is {self._newest_name()}. Lower train.optimizer.learning_rate"
                )

    def _write_part(self, name: str, boxes: dict[str, Box]) -> None:
        """This rank's tensors, and what they are."""
        folder = self._store.stage(name)
        path = folder / f"rank-{self._rank:05d}.safetensors"
        save_file({key: box.local for key, box in boxes.items()}, path)
        tensors = {
            key: {
                "shape": box.whole,
                "dtype": str(box.local.dtype).removeprefix("torch."),
                "piece": asdict(Piece(path.name, box.start, list(box.local.shape))),
            }
            for key, box in boxes.items()
        }
        stored = StoredFile(path.stat().st_size, digest_of_file(path))
        part = path.with_suffix(PART)
        self._store.share(name, [path])
        part.write_text(json.dumps({"file": path.name, "stored": asdict(stored), "tensors": tensors}))
        self._store.share(name, [part])

    def _prune(self) -> None:
        """Keep the newest, every `keep_every`-th, those after `keep_steps`, and the one `keep` names."""
        for name in self._store.names()[: -self._keep_last]:
            step = _step_of(name)
            wanted = step in self._keep_steps or step == self._kept
            if not wanted and (self._keep_every is None or step % self._keep_every):
                self._store.remove(name)

    def _newest_name(self) -> str:
        try:
            names = self._store.names()
        except OSError:
            return "not known"
        return self._store.describe(names[-1]) if names else "none yet"

    def latest(self, before: int | None = None) -> Found:
        """The newest checkpoint whose files are all as they were written, of those after fewer than `before` steps.

        Raises InputError if none can be listed.
        """
        damaged: list[Damaged] = []
        try:
            names = self._store.names()
        except OSError as error:
            raise InputError(f"{self.url}: checkpoints cannot be read here ({_reason(error)})") from error
        for name in reversed(names):
            if before is not None and _step_of(name) >= before:
                continue
            try:
                return Found(self._verified(name), damaged)
            except (ValueError, OSError) as error:
                damaged.append(Damaged(self._store.describe(name), str(error)))
        return Found(None, damaged)

    def newest_manifest(self) -> tuple[str, CheckpointManifest] | None:
        """Path and manifest of the newest checkpoint that has a whole one; its tensors are not looked at.

        Raises InputError if none can be listed.
        """
        try:
            names = self._store.names()
        except OSError as error:
            raise InputError(f"{self.url}: checkpoints cannot be read here ({_reason(error)})") from error
        for name in reversed(names):
            with suppress(ValueError, OSError):
                return self._store.describe(name), CheckpointManifest.from_json(self._store.manifest(name))
        return None

    def _verified(self, name: str) -> Checkpoint:
        """The checkpoint of this name. Raises ValueError or OSError when it is not whole."""
        directory = self._store.fetch(name)
        manifest = CheckpointManifest.read(directory / MANIFEST)
        manifest.verify(directory)
        return Checkpoint(self._store.describe(name), directory, manifest)

    def forget_after(self, step: int) -> None:
        """Delete the checkpoints after more than `step` steps: a way given up. The first rank does."""
        for name in self._store.names() if self._rank == 0 else ():
            if _step_of(name) > step:
                self._store.remove(name)

    def clear(self) -> None:
        """Delete every checkpoint."""
        for name in self._store.names():
            self._store.remove(name)

    def remove(self, step: int) -> None:
        """Delete the checkpoint after this step, if there is one."""
        if (name := f"step-{step:08d}") in self._store.names():
            self._store.remove(name)

    def at(self, step: int) -> Checkpoint | None:
        """The checkpoint after this step, if it is there and whole."""
        name = f"step-{step:08d}"
        try:
            return self._verified(name) if name in self._store.names() else None
        except (ValueError, OSError):
            return None

    def set_aside(self, damaged: Damaged) -> str:
        """Rename a damaged checkpoint, so that pruning never counts it as one of those to keep; returns where."""
        name = damaged.path.rstrip("/").rsplit("/", 1)[-1]
        return self._store.set_aside(name) if self._rank == 0 else damaged.path

    def load(self, checkpoint: Checkpoint, into: Mapping[str, Tensor]) -> None:
        """Fill tensors, plain or sharded over any number of ranks.

        Raises InputError when the checkpoint lacks one, has it in another shape, or holds NaN or infinity.
        """
        for name, tensor in into.items():
            stored, box = checkpoint.manifest.tensors.get(name), box_of(tensor)
            if stored is None:
                raise InputError(f"{checkpoint.path}: has no tensor {name!r}; it was saved by another model")
            if stored.shape != box.whole:
                raise InputError(f"{checkpoint.path}: {name} has shape {stored.shape}, this model needs {box.whole}")
            try:
                fill(box, stored, name, checkpoint.directory)
            except (ValueError, SafetensorError) as error:
                raise InputError(f"{checkpoint.path}: {error}; delete it to go on from the one before") from error
            if box.local.is_floating_point() and not bool(torch.isfinite(box.local).all()):
                raise InputError(
                    f"{checkpoint.path}: {name} holds NaN or infinity; delete it to go on from the one before"
                )


def _step_of(name: str) -> int:
    return int(name.removeprefix("step-"))


def _manifest_of(parts: list[dict[str, Any]], step: int, next_sample: int, meta: dict[str, Any]) -> CheckpointManifest:
    """Put together what each rank says about its own file."""
    tensors: dict[str, StoredTensor] = {}
    for part in parts:
        for name, stored in part["tensors"].items():
            entry = tensors.setdefault(name, StoredTensor(stored["shape"], stored["dtype"], []))
            entry.pieces.append(Piece(**stored["piece"]))
    files = {part["file"]: StoredFile(**part["stored"]) for part in parts}
    return CheckpointManifest(step, next_sample, meta, files, tensors)


def _remedy(error: Exception) -> str:
    """What to do about a checkpoint that could not be written."""
    number = re.search(r"\(os error (\d+)\)", str(error))  # the safetensors library's way to say it
    if number and not getattr(error, "errno", None):
        return remedy_for(OSError(int(number[1]), ""))
    return remedy_for(error) if isinstance(error, OSError) else "look at that disk, then run again"


def _reason(error: Exception) -> str:
    """`No space left on device` whether Python or the safetensors library says it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    inner = re.search(r"I/O error: (.*?)( \(os error|$)", str(error))
    return inner.group(1) if inner else without_secrets((str(error).splitlines() or [type(error).__name__])[0])
