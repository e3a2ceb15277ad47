"""Scaling laws: fit the small runs, forecast the large one with intervals that hold, and measure effective compute.

Front door. The law half imports neither torch nor any other room, so `tenfold predict --table` starts at once.
"""

from tenfold.scaling.calibration import LEVELS
from tenfold.scaling.effective import Multiple, effective_compute, effective_data
from tenfold.scaling.law import Forecast, ScalingLaw, fit_scaling_law
from tenfold.scaling.optimum import compute_optimal
from tenfold.scaling.table import Points, RunTable, read_runs

__all__ = [
    "LEVELS",
    "Forecast",
    "Multiple",
    "Points",
    "RunTable",
    "ScalingLaw",
    "compute_optimal",
    "effective_compute",
    "effective_data",
    "fit_scaling_law",
    "read_runs",
]
