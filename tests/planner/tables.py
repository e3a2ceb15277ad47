"""Tables of a page in docs/ that are written by code: each stands between `<!-- name -->` and `<!-- end -->`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path


def row(*cells: str, head: bool = False) -> Sequence[str]:
    """One line of a table; a heading is followed by its rule."""
    line = f"| {' | '.join(cells)} |"
    return [line, "|" + "---|" * len(cells)] if head else [line]


def short(allowed: str) -> str:
    """1000000000 as 10^9."""
    return re.sub(r"(?<=≤ )1(0{6,})(\.0)?", lambda found: f"10^{len(found[1])}", allowed)


def rewritten(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table replaced by what it should be."""
    for name, table in tables.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda found, t=table: f"{found[1]}{t}\n{found[2]}",
            page,
            flags=re.S,
        )
    return page


def write(path: Path, tables: Mapping[str, str]) -> None:
    """Put the tables into the page."""
    path.write_text(rewritten(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
