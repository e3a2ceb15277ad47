"""Errors by family, in figures that compare."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tenfold.planner.cost.numbers import Array


@dataclass(frozen=True)
class Errors:
    """Of |forecast / measured − 1|: median, mean (MAPE), 90th percentile; and the median of forecast / measured − 1."""

    rows: int
    median: float
    mape: float
    p90: float
    bias: float


@dataclass(frozen=True)
class FamilySummary:
    """One family's step times, beside constant utilisation on the same rows, and its memory where it was measured."""

    family: str
    time: Errors
    coverage: float | None
    """Share of the measured step times inside the 90% interval; None where no interval could be made without them."""
    constant_mfu: Errors | None
    memory: Errors | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def errors(forecast: Array, seen: Array) -> Errors:
    """Of arrays of shape (rows,)."""
    relative = forecast / seen - 1
    size = np.abs(relative)
    return Errors(
        rows=len(relative),
        median=float(np.median(size)),
        mape=float(size.mean()),
        p90=float(np.quantile(size, 0.9)),
        bias=float(np.median(relative)),
    )


def table(summaries: Sequence[FamilySummary]) -> list[str]:
    """For people: one line for each family."""
    head = (
        f"{'family':20} {'rows':>5}  {'median':>7} {'MAPE':>7} {'P90':>7} {'bias':>7}  {'in 90%':>6}   constant MFU: "
    )
    lines = [head + f"{'median':>7} {'MAPE':>7} {'P90':>7}   memory: {'median':>7} {'MAPE':>7}"]
    for each in summaries:
        time = each.time
        line = f"{each.family:20} {time.rows:5}  {time.median:7.1%} {time.mape:7.1%} {time.p90:7.1%} {time.bias:+7.1%}"
        line += f"  {'–' if each.coverage is None else f'{each.coverage:.0%}':>6}" + " " * 17
        plain = each.constant_mfu
        line += f"{plain.median:7.1%} {plain.mape:7.1%} {plain.p90:7.1%}" if plain else f"{'–':>7} {'–':>7} {'–':>7}"
        line += f"           {each.memory.median:7.1%} {each.memory.mape:7.1%}" if each.memory else ""
        lines.append(line)
    return lines
