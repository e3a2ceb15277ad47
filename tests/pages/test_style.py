"""Colours in one place, and what the room needs of others: nothing."""

import re
import subprocess
import sys
from pathlib import Path

import tenfold.pages
from tenfold.pages.style import COLOURS, DARK, LIGHT, moment, ramp

ROOM = Path(tenfold.pages.__file__).parent
LOADED = """
import sys
from tenfold.pages import plan_files, report
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("tenfold.")}
print(sorted(rooms), "torch" in sys.modules, "numpy" in sys.modules)
"""


def test_every_colour_is_there_by_day_and_by_night() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert {f"var(--{name})" for name in LIGHT} >= set(COLOURS)


def test_no_colour_is_named_anywhere_else() -> None:
    for path in [*ROOM.glob("*.py"), *(ROOM / "templates").iterdir()]:
        if path.name != "style.py":
            assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(|hsl\(", path.read_text()), path.name


def test_series_in_order_go_from_blue_to_orange() -> None:
    assert [re.findall(r"(\d+)%", ramp(number, 3)) for number in range(3)] == [["0"], ["50"], ["100"]]
    assert ramp(0, 1) == ramp(0, 2)


def test_a_moment_is_said_in_utc() -> None:
    assert moment(1_790_000_000) == "2026-09-21 14:13:20 UTC"


def test_pages_know_plain_values_only() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['core',", "'pages']", "False", "False"]
