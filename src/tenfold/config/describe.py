"""campaign.toml written out with every key explained, and the reference page made from the same schema."""

import json
import re
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tenfold.config.base import sections_in
from tenfold.config.campaign import Campaign
from tenfold.core import InputError

WRAP_AT = 108


@dataclass(frozen=True)
class Key:
    """One key of one section: how it is written, what it may be, what it means."""

    section: str
    name: str
    allowed: str
    default: Any
    description: str
    required: bool


def example_names() -> list[str]:
    """Names of the examples `tenfold init --example` knows."""
    folder = resources.files("tenfold.config") / "examples"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def example_values(name: str) -> dict[str, Any]:
    """What an example sets, the rest being defaults. Raises InputError for an unknown name."""
    if name not in example_names():
        raise InputError(f"--example {name!r}: no such example; there are {', '.join(example_names())}")
    text = (resources.files("tenfold.config") / "examples" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def render_campaign(values: Mapping[str, Any], title: str) -> str:
    """campaign.toml with `values` set and every other key there as a comment with its default."""
    lines = [
        f"# {title}",
        "# Keys that are commented out show their default. Reference: docs/configuration.md",
        "",
    ]
    lines += _render_section(Campaign, "", values)
    return "\n".join(lines).rstrip() + "\n"


def _render_section(section: type[BaseModel], path: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Plain keys first, then the tables below them, as TOML wants it."""
    tables = []
    for name, field in section.model_fields.items():
        inner = next(sections_in(field.annotation), None)
        if inner is not None:
            tables.append((name, inner, field))
            continue
        yield from _comment(field.description or "")
        setting = f"{name} = {_toml(values.get(name, field.default))}"
        yield setting if name in values else f"# {setting}".replace("= <none>", "=")
        yield ""
    for name, inner, field in tables:
        inner_path = f"{path}.{name}".lstrip(".")
        yield from _render_table(inner, inner_path, values.get(name, {}), is_list=_is_list(field))


def _render_table(inner: type[BaseModel], path: str, values: Any, *, is_list: bool) -> Iterator[str]:
    summary = (inner.__doc__ or "").strip().splitlines()[0]
    if not is_list:
        yield from ["", f"# {summary}", f"[{path}]"]
        yield from _render_section(inner, path, values)
        return
    yield from ["", f"# {summary}"]
    for key in keys_of(inner, path):
        yield from _comment(f"{key.name}: {key.description}", "#  ")
    for item in values:
        yield f"[[{path}]]"
        yield from (f"{name} = {_toml(value)}" for name, value in item.items())
        yield ""


def _comment(text: str, start: str = "#") -> Iterator[str]:
    line = start
    for word in text.split():
        if len(line) + 1 + len(word) > WRAP_AT:
            yield line
            line = f"{start} "
        line += f" {word}"
    yield line


def _toml(value: Any) -> str:
    if value is None:
        return "<none>"
    return json.dumps(value, ensure_ascii=False)  # TOML and JSON agree on every value the schema has


def _is_list(field: FieldInfo) -> bool:
    return "list[" in str(field.annotation)


def keys_of(section: type[BaseModel], path: str) -> Iterator[Key]:
    """The plain keys of a section."""
    for name, field in section.model_fields.items():
        if next(sections_in(field.annotation), None) is None:
            default = None if field.is_required() else field.default
            allowed = ", ".join([_type_name(field.annotation), *_bounds(field)])
            yield Key(path, name, allowed, default, field.description or "", field.is_required())


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(json.dumps(value) for value in arguments)
    if origin is Annotated:
        return ", ".join([_type_name(arguments[0]), *(b for a in arguments[1:] for b in _constraint(a))])
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(argument) for argument in arguments if argument is not type(None))
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    return {int: "integer", float: "number", str: "text", bool: "true or false"}[annotation]


def _bounds(field: FieldInfo) -> list[str]:
    return [bound for metadata in field.metadata for bound in _constraint(metadata)]


def _constraint(metadata: Any) -> list[str]:
    match metadata:
        case Gt(gt=bound):
            return [f"> {bound}"]
        case Ge(ge=bound):
            return [f"≥ {bound}"]
        case Lt(lt=bound):
            return [f"< {bound}"]
        case Le(le=bound):
            return [f"≤ {bound}"]
        case MultipleOf(multiple_of=factor):
            return [f"multiple of {factor}"]
        case FieldInfo():
            return _bounds(metadata)
    return []


def render_reference() -> str:
    """docs/configuration.md: every section, key, allowed value and default."""
    lines = [
        "# Configuration reference",
        "",
        "Made from the schema in `src/tenfold/config` by `make docs`; do not edit by hand.",
        "Any key can be set on the command line: `--set section.key=value`.",
    ]
    for path, section in _walk(Campaign, ""):
        heading = (section.__doc__ or "").strip().splitlines()[0]
        lines += ["", f"## `{path}`" if path else "## top level", "", heading, ""]
        lines += ["| key | allowed | default | meaning |", "|---|---|---|---|"]
        lines += [_reference_row(key) for key in keys_of(section, path)]
    return "\n".join(lines) + "\n"


def _reference_row(key: Key) -> str:
    default = "(required)" if key.required else "" if key.default is None else f"`{_toml(key.default)}`"
    meaning = re.sub(r"\s+", " ", key.description).replace("|", "\\|")
    return f"| `{key.name}` | {key.allowed} | {default} | {meaning} |"


def _walk(section: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield path, section
    for name, field in section.model_fields.items():
        inner = next(sections_in(field.annotation), None)
        if inner is not None:
            inner_path = f"{path}.{name}".lstrip(".")
            yield from ((f"[{p}]" if _is_list(field) else p, s) for p, s in _walk(inner, inner_path))
