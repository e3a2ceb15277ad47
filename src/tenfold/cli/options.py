"""What the commands share: their arguments, how results are shown, groups of sub-verbs with a default."""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tenfold.core import InputError

CampaignDirectory = Annotated[Path, typer.Argument(metavar="[CAMPAIGN]", help="Directory that holds campaign.toml.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout; logs go to stderr.")]
HERE = Path()


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Print one JSON object for programs; for people the few figures that matter."""
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        if not isinstance(value, dict | list):
            print(f"{key}: {value}")


def show_lines(record: Mapping[str, Any], lines: Sequence[str], as_json: bool) -> None:
    """Print the record for programs, the lines for people."""
    if as_json:
        print_json(record)
    else:
        print("\n".join(lines))


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(finite(record), sort_keys=True, allow_nan=False))


def finite(value: Any) -> Any:
    """The value with null for each number that JSON does not have: infinite ones, and what is no number."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verbs(default: str, respelled: Callable[[Sequence[str]], str | None] | None = None) -> type[TyperGroup]:
    """A group of sub-verbs: words that name none of them are arguments of the `default` one.

    `respelled` gives today's spelling of words that an older tenfold took; such words raise InputError with it.
    """

    class Verbs(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            now = respelled(args) if respelled else None
            if now is not None:
                raise InputError(f"`{ctx.command_path} {shlex.join(args)}` is spelled `{ctx.command_path} {now}` now")
            if not args or (args[0] not in self.commands and args[0] != "--help"):
                args = [default, *args]
            return super().parse_args(ctx, args)

    return Verbs
