"""What every section of a TOML file has in common: how it is read, how strict it is, and one line for what is wrong."""

import difflib
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from tenfold.core import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Section(BaseModel):
    """One table of campaign.toml: unknown keys refused, nothing converted, values never change after loading."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


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


def explain(error: ValidationError, where: str, root: type[BaseModel], set_keys: Sequence[str] = ()) -> str:
    """One line for all that is wrong with a `root`: file or --set, key, the value, what is allowed."""
    told = [_explained(each, root) for each in error.errors()]
    origins = ["--set" if _dotted(each["loc"]) in set_keys else where for each in error.errors()]
    return "; ".join(
        f"{origin}: {text}" if number == 0 or origin != origins[number - 1] else text
        for number, (origin, text) in enumerate(zip(origins, told, strict=True))
    )


def _explained(error: "ErrorDetails", root: type[BaseModel]) -> str:
    """Key, value and what is allowed."""
    key = _dotted(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_nearest(error['loc'], root)}"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], dict) or error["type"] == "missing":
        return f"{key + ': ' if key else ''}{message}"
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"


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
