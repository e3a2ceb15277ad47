"""Forecasts of training on the machine at hand: step time and memory. Front door."""

from tenfold.experiments.local.calibration import Calibration, calibrate
from tenfold.experiments.local.forecast import LocalForecast, TimeShare, forecast_local
from tenfold.experiments.local.memory import LocalMemory

__all__ = ["Calibration", "LocalForecast", "LocalMemory", "TimeShare", "calibrate", "forecast_local"]
