"""The few constants of the cost model, fitted to measured runs, with intervals from runs they had not seen."""

from tenfold.planner.calibration.fit import Calibration
from tenfold.planner.calibration.stored import MOST_MEASURED, Calibrated, calibrate, read, shipped, write

__all__ = ["MOST_MEASURED", "Calibrated", "Calibration", "calibrate", "read", "shipped", "write"]
