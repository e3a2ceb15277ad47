"""Tables as lines of plain text."""

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDEST = 100_000  # no table is cut or wrapped to the width of a terminal


def text_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", *, drop_empty: bool = False
) -> list[str]:
    """One line of headings and one for each row, two spaces between columns, none at the end of a line.

    `align` has a letter for each column, l or r; columns beyond it are aligned like its last letter, and without it the
    first column is left, the others right. `drop_empty` leaves out columns that no row fills.
    """
    letters = (align or "lr") + (align or "r")[-1] * len(head)
    shown = [place for place in range(len(head)) if not drop_empty or any(row[place] for row in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style="")
    for place in shown:
        table.add_column(Text(head[place]), justify="right" if letters[place] == "r" else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[place]) for place in shown))
    console = Console(file=StringIO(), width=WIDEST, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
