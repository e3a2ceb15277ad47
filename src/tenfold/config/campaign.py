"""campaign.toml: all of it, read from its file with --set overrides applied, or one clear line about what is wrong."""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from tenfold.config.base import Section, explain, parse_document, read_text
from tenfold.config.data import Data
from tenfold.config.learners import Chaos, Fault, Learners, with_new_names
from tenfold.config.train import CheckpointSettings, Evaluate, Ladder, Model, Train
from tenfold.config.watch import Watch
from tenfold.core import InputError


class Campaign(Section):
    """campaign.toml: one file says everything about a run; every default is explained here, once."""

    name: Annotated[str, Field(min_length=1)] = "campaign"
    """Name in the ledger and the report."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Seed of everything random: data order, splits, initial weights."""
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    checkpoint: CheckpointSettings = CheckpointSettings()
    evaluate: Evaluate = Evaluate()
    watch: Watch = Watch()
    ladder: Ladder = Ladder()
    learners: Learners = Learners()
    chaos: Chaos = Chaos()

    @model_validator(mode="before")
    @classmethod
    def _has_new_names(cls, values: Any) -> Any:
        return with_new_names(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _batch_is_whole_sequences(self) -> "Campaign":
        if self.train.batch_tokens % self.model.context:
            below = self.train.batch_tokens // self.model.context * self.model.context
            nearest = " or ".join(str(n) for n in (below, below + self.model.context) if n)
            raise ValueError(
                f"train.batch_tokens {self.train.batch_tokens} must be a multiple of model.context "
                f"{self.model.context}, such as {nearest}"
            )
        if self.stride > self.model.context:
            raise ValueError(
                f"evaluate.stride {self.stride} must not exceed model.context {self.model.context}; set fewer tokens, "
                "or a share of the context such as 0.75"
            )
        return self

    @property
    def stride(self) -> int:
        """Tokens scored per window, in tokens whatever `evaluate.stride` says them in."""
        stride, context = self.evaluate.stride or 0.5, self.model.context
        return max(1, int(stride * context)) if stride < 1 else int(stride)

    @property
    def digested_stride(self) -> int | None:
        """What digests have of it: None where none is set, as in those of earlier campaigns."""
        return None if self.evaluate.stride is None else self.stride

    @model_validator(mode="after")
    def _best_can_be_told(self) -> "Campaign":
        best, names = self.checkpoint.keep_best, [holdout.name for holdout in self.data.holdouts]
        if best is not None and best not in names:
            raise ValueError(f"checkpoint.keep_best {best!r}: no such holdout; there are {', '.join(names) or 'none'}")
        if best is not None and self.learners.count:
            raise ValueError("checkpoint.keep_best: not with [learners], whose syncer keeps one state; leave one out")
        return self

    @model_validator(mode="after")
    def _faults_reach_learners(self) -> "Campaign":
        if self.learners.launch == "slurm" and (self.chaos.faults or self.chaos.per_hour):
            raise ValueError('[chaos] hits processes of this machine; with learners.launch = "slurm" leave it out')
        return self


FILE_NAME = "campaign.toml"


def load_campaign(directory: Path, overrides: Sequence[str] = ()) -> Campaign:
    """Read `directory/campaign.toml` and apply `section.key=value` overrides.

    Raises InputError naming the file, the key, the value and what is allowed.
    """
    path = directory / FILE_NAME
    return parse_campaign(read_text(path, f"make one with `tenfold init {directory}`"), str(path), overrides)


def parse_campaign(text: str, where: str, overrides: Sequence[str] = ()) -> Campaign:
    """Parse TOML `text` (called `where` in messages) into a Campaign. Raises InputError."""
    document = parse_document(text, where)
    set_keys = [_apply_override(document, override) for override in overrides]
    if "cluster" in document:
        _warn_of_former_names(where)
    try:
        return Campaign.model_validate(document)
    except ValidationError as error:
        raise InputError(explain(error, where, Campaign, set_keys)) from None


@cache
def _warn_of_former_names(origin: str) -> None:
    """Once in a process: a command reads its campaign several times."""
    logging.getLogger("tenfold").warning(
        f"{origin}: [cluster] is called [learners] now, its key `learners` is `count`; read as that"
    )


def _with_new_name(key: str) -> str:
    section, _, rest = key.partition(".")
    if section != "cluster":
        return key
    _warn_of_former_names("--set")
    return f"learners.{'count' if rest == 'learners' else rest}"


def _apply_override(document: dict[str, Any], override: str) -> str:
    """Put one `section.key=value` into the document; the value is TOML, or a string if it is not."""
    key, equals, value = override.partition("=")
    parts = _with_new_name(key.strip()).split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {override!r}: write it as section.key=value")
    table = document
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override!r}: {part!r} is not a section; edit {FILE_NAME} instead")
    table[parts[-1]] = _parse_value(value.strip())
    return ".".join(parts)


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def checked_fault(values: Mapping[str, Any]) -> dict[str, Any]:
    """A fault that is due now, keys as in [[chaos.faults]] without `at`. Raises InputError for what cannot be."""
    try:
        return Fault.model_validate({"at_seconds": 0.0, **values}).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        raise InputError(explain(error, "fault", Fault)) from None
