"""The whole loss curve by step, given the learning-rate schedule: fit, forecast with bands, track live.

`fit_law` fits the multi-power law on curves of one or several sizes; `MultiPowerLaw.losses` predicts another schedule.
`forecast_curve` carries the curves of small runs to a larger target. `BandTracker` holds a live run against the band.
"""

from tenfold.scaling.curve.annealing import AnnealingPath, trace
from tenfold.scaling.curve.band import Band, BandEvent, BandTracker, CurveForecast, FinalLoss, Side
from tenfold.scaling.curve.fit import fit_law
from tenfold.scaling.curve.forecast import backtest, forecast_curve
from tenfold.scaling.curve.law import MultiPowerLaw, Shape
from tenfold.scaling.curve.runs import Curve, Run, schedule_rates

__all__ = [
    "AnnealingPath",
    "Band",
    "BandEvent",
    "BandTracker",
    "Curve",
    "CurveForecast",
    "FinalLoss",
    "MultiPowerLaw",
    "Run",
    "Shape",
    "Side",
    "backtest",
    "fit_law",
    "forecast_curve",
    "schedule_rates",
    "trace",
]
