"""An answer of the planner: a record for programs, and lines for people."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 120
"""Signs of a line, at most."""


@dataclass(frozen=True)
class PlanAnswer:
    """An answer: for programs, and line by line for people."""

    record: dict[str, Any]
    lines: list[str]


def within_width(lines: Sequence[str]) -> list[str]:
    """The lines, longer ones wrapped at spaces."""
    return [
        part
        for line in lines
        for part in ([line] if len(line) <= WIDTH else textwrap.wrap(line, WIDTH, subsequent_indent="  "))
    ]
