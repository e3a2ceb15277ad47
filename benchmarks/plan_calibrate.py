"""Make the calibration that tenfold ships, from a table of measured runs.

    python benchmarks/plan_calibrate.py measured_runs.csv [--to calibration.json]

Constants are fitted to all rows; interval widths come from holding out one model shape after another. Some minutes.
"""

import argparse
import sys
import time
from pathlib import Path

from tenfold.planner.calibration.calibrated import calibrate, write_calibration
from tenfold.planner.calibration.runs import read_runs

SHIPPED = Path(__file__).parent.parent / "src/tenfold/planner/calibration/calibration.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--to", type=Path, default=SHIPPED)
    arguments = parser.parse_args()
    runs, skipped = read_runs(arguments.rows)
    begin = time.monotonic()

    def told(done: int, of: int) -> None:
        left = (time.monotonic() - begin) / done * (of - done)
        print(f"\rheld out {done} of {of} shapes, {left:.0f} s left ", end="", file=sys.stderr, flush=True)

    calibrated = calibrate(runs, told)
    write_calibration(calibrated, arguments.to)
    print(f"\n{len(runs)} rows, {len(skipped)} left out as they cannot be modelled; wrote {arguments.to}")
    for framework, width in calibrated.widths.items():
        print(f"  {framework or '(never seen)':20} 90% interval: times or divided by {2.718281828**width:.2f}")


if __name__ == "__main__":
    main()
