"""Forecasts of training on the machine at hand: step time and memory. Front door."""

from tenfold.planner.local.calibration import Calibration, calibrate
from tenfold.planner.local.forecast import LocalForecast, TimeShare, forecast_local
from tenfold.planner.local.memory import LocalMemory

__all__ = ["Calibration", "LocalForecast", "LocalMemory", "TimeShare", "calibrate", "forecast_local"]
