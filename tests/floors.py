"""Line coverage by room, and the floors it must not fall below: `python -m tests.floors COVERAGE.json`."""

import json
import sys
from collections import defaultdict
from pathlib import Path

FLOORS = {"train": 95.0, "all": 90.0}
"""Percent of lines that the tests execute, by room of the package; `all` is the package as a whole."""


def covered_by_room(report: Path) -> dict[str, tuple[int, int]]:
    """Lines executed and lines in all, by room, from a report that `coverage json` wrote."""
    rooms: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for name, file in json.loads(report.read_text(encoding="utf-8"))["files"].items():
        parts = Path(name).parts
        below = parts[parts.index("tenfold") + 1 :]
        summary = file["summary"]
        for room in (below[0] if len(below) > 1 else "tenfold", "all"):
            executed, lines = rooms[room]
            rooms[room] = executed + summary["covered_lines"], lines + summary["num_statements"]
    return dict(rooms)


def main(report: Path) -> int:
    """Print the share of each room; 1 when a room is below its floor or has a floor and no lines."""
    rooms = covered_by_room(report)
    shares = {room: 100 * executed / lines for room, (executed, lines) in rooms.items() if lines}
    for room, share in sorted(shares.items(), key=lambda each: (each[0] == "all", each[1])):
        floor = f"  floor {FLOORS[room]:.0f}%" if room in FLOORS else ""
        print(f"coverage  {room:<12} {share:5.1f}% of {rooms[room][1]:>6,} lines{floor}")
    below = [room for room, floor in FLOORS.items() if shares.get(room, 0.0) < floor]
    if below:
        print(f"coverage below its floor: {', '.join(below)}", file=sys.stderr)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
