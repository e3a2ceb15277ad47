"""Scaling laws: fit the small runs, forecast the large one with intervals that hold, and measure effective compute.

Front door. The law half imports neither torch nor any other room, so `tenfold predict --table` starts at once.
"""

from tenfold.scaling.calibration import LEVELS
from tenfold.scaling.derisk import Assessment, Comparison, Scale, StackCheck, Worth, assess, stack_held, stacked
from tenfold.scaling.effective import Multiple, effective_compute, effective_data
from tenfold.scaling.law import Forecast, ScalingLaw, fit_scaling_law
from tenfold.scaling.optimum import compute_optimal
from tenfold.scaling.table import Points, RunTable, read_runs

__all__ = [
    "LEVELS",
    "Assessment",
    "Comparison",
    "Forecast",
    "Multiple",
    "Points",
    "RunTable",
    "Scale",
    "ScalingLaw",
    "StackCheck",
    "Worth",
    "assess",
    "compute_optimal",
    "effective_compute",
    "effective_data",
    "fit_scaling_law",
    "read_runs",
    "stack_held",
    "stacked",
]
