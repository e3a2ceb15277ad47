"""The table of layouts that a person reads in a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenfold.pages.plan import Planned
from tenfold.pages.plan_bars import GIGA, seconds_text, sharding_text

EXPLANATION = (
    "TP tensor, CP context, PP pipeline, DP data and EP expert parallel degrees; chunks: of the model on each stage "
    "(z: zero bubble);",
    "micro: sequences of a micro-batch; step: seconds, with the 90% interval; memory: of the fullest device;",
    "fits: the chance that it is enough, given how far forecasts were off.",
)
EXTRAPOLATION = "extrapolation"


@dataclass(frozen=True)
class Column:
    """A heading, the least width, and what stands below; numbers are right-aligned."""

    head: str
    width: int
    cell: Callable[[Planned], str]
    left: bool = False


COLUMNS = (
    Column("TP", 2, lambda layout: str(layout.tensor)),
    Column("CP", 2, lambda layout: str(layout.context)),
    Column("PP", 3, lambda layout: str(layout.pipeline)),
    Column("DP", 5, lambda layout: str(layout.data)),
    Column("EP", 3, lambda layout: str(layout.expert)),
    Column("chunks", 6, lambda layout: f"{layout.interleaving}{'z' if layout.zero_bubble else ''}"),
    Column("micro", 5, lambda layout: str(layout.micro_batch)),
    Column("recompute", 9, lambda layout: layout.recomputation, left=True),
    Column("sharding", 8, lambda layout: sharding_text(layout) if layout.sharding else "none", left=True),
    Column("step", 5, lambda layout: seconds_text(layout.seconds)),
    Column("90% interval", 13, lambda layout: f"{seconds_text(layout.low)} to {seconds_text(layout.high)}"),
    Column("tokens/s", 10, lambda layout: f"{layout.tokens_per_second:,.0f}"),
    Column("MFU", 5, lambda layout: f"{100 * layout.mfu:.1f}%"),
    Column("memory", 8, lambda layout: f"{layout.memory_bytes / GIGA:.1f} GB"),
    Column("fits", 4, lambda layout: f"{layout.chance_to_fit:.0%}"),
)


def plan_table(layouts: Sequence[Planned]) -> list[str]:
    """Lines: heading, one for each layout in order of rank, and what the headings mean.

    Columns have the same widths for every plan, unless a number is longer than any cluster of today needs.
    """
    widths = [max([column.width, *(len(column.cell(layout)) for layout in layouts)]) for column in COLUMNS]
    head = _line("#", [column.head for column in COLUMNS], widths)
    rows = [
        _line(str(rank), [column.cell(layout) for column in COLUMNS], widths)
        + (f"  {EXTRAPOLATION}" if layout.extrapolation else "")
        for rank, layout in enumerate(layouts, 1)
    ]
    return [head, *rows, "", *EXPLANATION]


def _line(rank: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    placed = [
        f"{cell:<{width}}" if column.left else f"{cell:>{width}}"
        for column, cell, width in zip(COLUMNS, cells, widths, strict=True)
    ]
    return "  ".join([f"{rank:>2}", *placed]).rstrip()
