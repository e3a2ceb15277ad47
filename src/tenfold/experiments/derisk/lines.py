"""A change's record for people."""

from collections.abc import Mapping
from typing import Any

from tenfold.pages.figures import percent, times

LEVEL = "80% intervals"


def derisk_lines(record: Mapping[str, Any]) -> list[str]:
    """What each scale, the ladder as a whole and the target say, then verdict and stack; a divergence says nothing."""
    found = record["assessment"]
    about = ": ".join(text for text in (record["name"], record["description"]) if text)
    figures = _figure_lines(found) if found["scales"] else []
    return [about, *figures, f"verdict: {found['verdict']}: {found['why']}", *_stack_lines(record)]


def _figure_lines(found: Mapping[str, Any]) -> list[str]:
    target, width = found["at_target"], max(len(scale["rung"]) for scale in found["scales"])
    return [
        f"multiplier of compute, {LEVEL}:",
        *(f"  {scale['rung']:<{width}}  {times(scale)}{_capped(scale)}" for scale in found["scales"]),
        f"pooled: {times(found['pooled'])} from {found['seeds']} {'seed' if found['seeds'] == 1 else 'seeds'}, "
        f"noise of one comparison {percent(found['noise'])}",
        f"at target: {times(target)}, {target['decades_beyond']:.1f} decades beyond the largest rung",
        f"trend: {found['trend']}, {times(found['slope_per_decade'])} for ten times the compute",
    ]


def _capped(scale: Mapping[str, Any]) -> str:
    return "  (beyond the reference law's reach)" if scale["capped"] else ""


def _stack_lines(record: Mapping[str, Any]) -> list[str]:
    """Whether the gains multiply; a stack without a check lacks the change's own worth."""
    if record["stack_check"] is not None:
        return [f"stack: {record['stack_check']['text']}"]
    if record["stack"]:
        below = ", ".join(record["stack"])
        return [f"stack: on top of {below}; not compared with a product, since this change was not tried alone"]
    return []
