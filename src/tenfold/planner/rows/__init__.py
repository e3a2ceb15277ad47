"""Tables of measured runs."""

from tenfold.planner.rows.arrays import device_of, layout_of, shape_of
from tenfold.planner.rows.read import Skipped, read_runs
from tenfold.planner.rows.run import Run

__all__ = ["Run", "Skipped", "device_of", "layout_of", "read_runs", "shape_of"]
