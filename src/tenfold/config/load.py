"""From campaign.toml and --set overrides to a Campaign, or to one clear line about what is wrong."""

import difflib
import logging
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tenfold.config.campaign import Campaign
from tenfold.config.chaos import Fault
from tenfold.core.errors import InputError

FILE_NAME = "campaign.toml"


def load_campaign(directory: Path, overrides: Sequence[str] = ()) -> Campaign:
    """Read `directory/campaign.toml` and apply `section.key=value` overrides.

    Raises InputError naming the file, the key, the value and what is allowed.
    """
    path = directory / FILE_NAME
    return parse_campaign(read_text(path, f"make one with `tenfold init {directory}`"), str(path), overrides)


def read_text(path: Path, remedy: str) -> str:
    """The text of a TOML file. Raises InputError; `remedy` is what to do when there is no such file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def parse_document(text: str, where: str) -> dict[str, Any]:
    """TOML `text`, called `where` in messages. Raises InputError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested without end
        raise InputError(f"{where}: not valid TOML: {error}") from None


def parse_campaign(text: str, where: str, overrides: Sequence[str] = ()) -> Campaign:
    """Parse TOML `text` (called `where` in messages) into a Campaign. Raises InputError."""
    document = parse_document(text, where)
    set_keys = [_apply_override(document, override) for override in overrides]
    if "cluster" in document:
        _warn_of_former_names(where)
    try:
        return Campaign.model_validate(document)
    except ValidationError as error:
        raise InputError(explain(error, where, set_keys)) from None


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


def explain(error: ValidationError, where: str, set_keys: Sequence[str] = (), root: type[BaseModel] = Campaign) -> str:
    """One line for the first thing wrong with a `root`: file or --set, key, the value, what is allowed."""
    first = error.errors()[0]
    key = _dotted(first["loc"])
    origin = "--set" if key in set_keys else where
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{origin}: unknown key {key!r}{_nearest(first['loc'], root)}{more}"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], dict) or first["type"] == "missing":
        return f"{origin}: {key + ': ' if key else ''}{message}{more}"
    return f"{origin}: {key} = {first['input']!r}: {message[0].lower()}{message[1:]}{more}"


def checked_fault(values: Mapping[str, Any]) -> dict[str, Any]:
    """A fault that is due now, keys as in [[chaos.faults]] without `at`. Raises InputError for what cannot be."""
    try:
        return Fault.model_validate({"at_seconds": 0.0, **values}).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        raise InputError(explain(error, "fault", root=Fault)) from None


def _dotted(location: Sequence[int | str]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key.lstrip(".")


def _nearest(location: Sequence[int | str], root: type[BaseModel]) -> str:
    """What the writer may have meant, from the keys of the section the unknown one stands in."""
    section = root
    for part in location[:-1]:
        if isinstance(part, str):
            section = next(sections_in(section.model_fields[part].annotation))
    near = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; allowed here: {', '.join(section.model_fields)}"


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The section classes inside a type such as `Annotated[list[Source], ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)
