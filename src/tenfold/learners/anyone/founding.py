"""A run whose model comes from outside: what its learners ask the syncer first, and how the first of them founds it.

A syncer of `tenfold train` knows the model from its campaign. Here the first learner brings it: names and shapes of the
parameters and their values, fragment by fragment. Whoever comes after takes those values instead of its own.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tenfold.config import Precision
from tenfold.core import TenfoldError, digest_of, read_json, write_bytes, write_json
from tenfold.learners.fields import Count, Text, Whole
from tenfold.learners.messages import MOST_FRAGMENTS, Message, Refused, Request, parse
from tenfold.learners.outer import Fragment, cut_model

FOUNDING = "founding/"
FOUNDERS = 4  # that may send their model at the same time; the oldest is forgotten for a newer one
Shape = Annotated[tuple[Whole, ...], Field(max_length=16)]


class SettingsRequest(Request):
    """Ask how learners of this run exchange, and whether it has a model."""

    method = "settings"


class SettingsReply(Message):
    """`recipe`: of the founded run; None while nobody has brought a model. `total`: samples of the whole run."""

    inner_steps: Count
    fragments: Count
    precision: Precision
    total: Count
    recipe: str | None = None


class FoundingPart(Message):
    """Comes with the values of one fragment (float32) of a learner that founds the run.

    `config` is what every learner of the run must have too, in the user's words; `batch` the founder's samples a step.
    """

    founder: Text
    index: Whole
    shapes: dict[Annotated[str, Field(max_length=500)], Shape] = Field(max_length=MOST_FRAGMENTS)
    config: dict[str, Any]
    batch: Count


@dataclass(frozen=True)
class FoundedModel:
    """The model of a run: its parameters' shapes, what all learners share, and samples of one global step."""

    shapes: dict[str, list[int]]
    config: dict[str, Any]
    batch: int

    @property
    def recipe(self) -> str:
        """One for all learners of the run."""
        return recipe_of(self.shapes, self.config)


def recipe_of(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]) -> str:
    """sha256 over the shapes of all parameters and what the user says of the run."""
    return digest_of([{name: list(shape) for name, shape in shapes.items()}, dict(config)])


@dataclass
class Founding:
    """The model of a run on disk, or the parts of it that founders have sent. Safe for many threads."""

    folder: Path
    fragments: int
    """As many are wanted; a model of fewer tensors has fewer."""
    founded: FoundedModel | None = None
    _parts: OrderedDict[str, dict[int, bytes]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = read_json(self.folder / "model.json")
        if saved is not None:
            self.founded = FoundedModel(saved["shapes"], saved["config"], saved["batch"])

    def cut(self, shapes: Mapping[str, Sequence[int]]) -> list[Fragment]:
        """The fragments of a model."""
        return cut_model(shapes, min(self.fragments, len(shapes)))

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Before any byte is taken. Raises Refused for what is no part of a model, or once there is one."""
        part = self._part(key, header)
        if self.founded is not None:
            raise Refused("the run has a model; join it")
        fragments = self.cut(part.shapes)
        if not part.shapes or part.index >= len(fragments) or size != 4 * fragments[part.index].size:
            raise Refused(f"fragment {part.index}: not a part of the model that is announced")

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """Keep a part; with the last of them the run has its model, on disk when this returns."""
        part = self._part(key, header)
        with self._lock:
            if self.founded is not None:
                raise Refused("the run has a model; join it")
            parts = self._parts.setdefault(part.founder, {})
            self._parts.move_to_end(part.founder)
            while len(self._parts) > FOUNDERS:
                self._parts.popitem(last=False)
            parts[part.index] = bytes(data)
            if len(parts) == len(self.cut(part.shapes)):
                self._found(part, parts)
        return {}

    def _found(self, part: FoundingPart, parts: Mapping[int, bytes]) -> None:
        for index, values in parts.items():
            write_bytes(self._values_file(index), values)
        shapes = {name: list(shape) for name, shape in part.shapes.items()}
        write_json(self.folder / "model.json", {"shapes": shapes, "config": part.config, "batch": part.batch})
        self.founded = FoundedModel(shapes, part.config, part.batch)
        self._parts.clear()

    def initial(self, fragment: Fragment) -> Tensor:
        """A fragment as the founder brought it: float32, one vector. Raises TenfoldError when the file is gone."""
        try:
            data = bytearray(self._values_file(fragment.index).read_bytes())
        except OSError as error:
            raise TenfoldError(f"{error.filename}: cannot be read ({error.strerror})") from error
        return torch.frombuffer(data, dtype=torch.float32)

    def _values_file(self, index: int) -> Path:
        return self.folder / f"initial-{index}.bin"

    @staticmethod
    def _part(key: str, header: dict[str, Any]) -> FoundingPart:
        part = parse(FoundingPart, header, "a part of a model")
        if key != part_key(part):
            raise Refused(f"a part of a model: its header says {part_key(part)}, its name is {key[:80]!r}")
        if len(json.dumps(part.config)) > 65_536:
            raise Refused("a part of a model: its configuration is too long")
        return part


def part_key(part: FoundingPart) -> str:
    """Its name on the wire."""
    return f"{FOUNDING}{part.founder}/{part.index}"
