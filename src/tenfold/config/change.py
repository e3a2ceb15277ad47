"""CHANGE.toml: one change of a campaign, to be tried on a ladder of small runs."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tenfold.config.base import Section, explain
from tenfold.config.campaign import Campaign
from tenfold.core import InputError

NAME = r"^[a-z0-9][a-z0-9-]*$"
NAME_SAID = "lower-case letters, digits and -"
NOT_OF_A_SMALL_RUN = "it is no part of what a small run learns; a change sets keys of [model] and [train], or seed"
OF_THE_LADDER = "the ladder sets it for every rung"
REFUSED = {
    **dict.fromkeys(("name", "data", "checkpoint", "evaluate", "ladder"), NOT_OF_A_SMALL_RUN),
    **dict.fromkeys(("train.log_every", "train.device", "train.threads"), NOT_OF_A_SMALL_RUN),
    **dict.fromkeys(("train.tokens", "train.batch_tokens"), OF_THE_LADDER),
    **dict.fromkeys((f"model.{key}" for key in ("depth", "width", "heads", "kv_heads", "mlp_width")), OF_THE_LADDER),
}


class _File(Section):
    """The keys of CHANGE.toml."""

    name: Annotated[str, Field(pattern=NAME, max_length=64)] | None = None
    """Names it in ledger and report. Default: the file's name without its ending."""
    description: str = ""
    """One line for the report."""
    stack: list[str] = []
    """Names of changes tried before, on top of which this one is tried."""
    set: dict[str, Any] = {}
    """Keys of campaign.toml and their new values, dotted in quotes or as nested tables."""


@dataclass(frozen=True)
class Change:
    """One change: `set` maps dotted keys of campaign.toml to values, `where` names the file in messages."""

    name: str
    description: str
    stack: tuple[str, ...]
    set: Mapping[str, Any]
    where: str


def load_change(path: Path) -> Change:
    """Read CHANGE.toml. Raises InputError naming the file, the key and what is allowed.

    Whether the values are good is said by changed_campaign, since it depends on the campaign.
    """
    file = _read(path)
    change = Change(
        name=file.name or _name_of(path),
        description=file.description,
        stack=tuple(file.stack),
        set=_flat(file.set, str(path)),
        where=str(path),
    )
    _check_stack(change)
    for key in change.set:
        _check_allowed(key, change.where)
    return change


def _read(path: Path) -> _File:
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; write one with a table [set] of campaign.toml keys") from None
    except ValidationError as error:  # before ValueError, which it is one of
        raise InputError(explain(error, str(path), root=_File)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def _name_of(path: Path) -> str:
    if not re.fullmatch(NAME, path.stem):
        raise InputError(f"{path}: the file's name {path.stem!r} cannot be the change's: set name ({NAME_SAID})")
    return path.stem


def _flat(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Nested tables and dotted keys as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in _leaves(tables, ""):
        if not all(key.split(".")):
            raise InputError(f"{where}: [set] {key!r}: write it as section.key")
        clash = next((other for other in flat if _is_within(key, other) or _is_within(other, key)), None)
        if clash is not None:
            raise InputError(f"{where}: [set] {key!r}: set twice, also as {clash!r}; keep one")
        flat[key] = value
    return flat


def _is_within(key: str, section: str) -> bool:
    return f"{key}.".startswith(f"{section}.")


def _leaves(table: Mapping[str, Any], start: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


def _check_stack(change: Change) -> None:
    for name in change.stack:
        if not re.fullmatch(NAME, name):
            raise InputError(f"{change.where}: stack: {name!r} is no name of a change ({NAME_SAID})")
        if name == change.name or change.stack.count(name) > 1:
            raise InputError(f"{change.where}: stack: {name!r} is in it twice or is this change itself; keep one")
    if not change.set and len(change.stack) < 2:
        raise InputError(f"{change.where}: [set] is empty; set a campaign.toml key, or stack two changes or more")


def _check_allowed(key: str, where: str) -> None:
    """A section refused is refused with everything in it."""
    reason = next((REFUSED[part] for part in (key, key.partition(".")[0]) if part in REFUSED), None)
    if reason is not None:
        raise InputError(f"{where}: [set] {key}: {reason}")


def changed_campaign(campaign: Campaign, change: Change) -> Campaign:
    """The campaign with the change's own keys set; what it is stacked on is the caller's to set before.

    Raises InputError naming the file and key for one that does not exist, a value not allowed, and a change that
    changes nothing. A change that is a stack alone sets nothing and gives the campaign back.
    """
    document = campaign.model_dump(exclude_unset=True)
    for key, value in change.set.items():
        _put(document, key, value, change.where)
    try:
        changed = Campaign.model_validate(document)
    except ValidationError as error:
        raise InputError(explain(error, f"{change.where}: [set]", Campaign)) from None
    if change.set and changed.model_dump() == campaign.model_dump():
        raise InputError(f"{change.where}: [set] {', '.join(change.set)}: the campaign has these values already")
    return changed


def _put(document: dict[str, Any], key: str, value: Any, where: str) -> None:
    *sections, name = key.split(".")
    table = document
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"{where}: [set] {key}: {section!r} is not a section")
    table[name] = value
