"""A forecast of a whole curve with its bands, and the live run held against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tenfold.core import InputError
from tenfold.scaling.curve import Floats, Steps

Side = Literal["before", "inside", "above", "below"]
"""Where an evaluation lies; "before" the forecast begins, that is during warm-up."""


@dataclass(frozen=True)
class FinalLoss:
    """Forecast of a run's last loss: the value and, for each level such as 0.8, the interval (low, high)."""

    value: float
    intervals: Mapping[float, tuple[float, float]]

    def __post_init__(self) -> None:
        if not self.intervals:
            raise InputError("the forecast of the final loss needs an interval")
        for level, (low, high) in self.intervals.items():
            if not (0 < level < 1 and 0 < low <= self.value <= high):
                raise InputError(f"final loss {self.value:g}: the interval at {level:g} must contain it, above 0")


@dataclass(frozen=True)
class Band:
    """Between `low` and `high` (points,) the loss is expected to lie with probability `level`."""

    level: float
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CurveForecast:
    """The loss after each of `steps`, from the end of warm-up to the last step, which is the final-loss forecast."""

    steps: Steps
    losses: Floats
    bands: tuple[Band, ...]
    method: str
    """Which form carried the shape from the small runs to this one."""
    errors: Mapping[str, float]
    """Mean absolute error in log loss that the backtests expect of each form at the target; the smallest was chosen."""

    def at(self, step: int) -> float:
        """The loss forecast after `step`."""
        return float(np.interp(step, self.steps, self.losses))

    def interval(self, step: int, level: float) -> tuple[float, float]:
        """Low and high of the band at `level` after `step`."""
        band = self.band(level)
        return float(np.interp(step, self.steps, band.low)), float(np.interp(step, self.steps, band.high))

    def band(self, level: float) -> Band:
        """The band at `level`."""
        for band in self.bands:
            if band.level == level:
                return band
        raise InputError(f"no band at level {level:g}: there are {', '.join(f'{band.level:g}' for band in self.bands)}")

    def record(self) -> dict[str, Any]:
        """Write the forecast as plain numbers, for the ledger and for JSON."""
        return {
            "steps": self.steps.tolist(),
            "losses": self.losses.tolist(),
            "bands": [{"level": b.level, "low": b.low.tolist(), "high": b.high.tolist()} for b in self.bands],
            "method": self.method,
            "errors": dict(self.errors),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "CurveForecast":
        """Read what `record` wrote."""
        bands = tuple(Band(b["level"], np.array(b["low"]), np.array(b["high"])) for b in record["bands"])
        steps, losses = np.array(record["steps"], dtype=np.int64), np.array(record["losses"])
        return cls(steps, losses, bands, record["method"], record["errors"])


@dataclass(frozen=True)
class BandEvent:
    """The live curve has left the band for `count` evaluations in a row, the last of them at `step`."""

    step: int
    side: Side
    count: int
    loss: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return (
            f"step {self.step}: loss {self.loss:.4f} is {self.side} the {self.level:.0%} band "
            f"[{self.low:.4f}, {self.high:.4f}] for {self.count} evaluations"
        )


class BandTracker:
    """Holds live evaluations against the band. Its state is a function of what it was shown, so a resumed run shows
    it the recorded evaluations again."""

    def __init__(self, forecast: CurveForecast, level: float = 0.95, patience: int = 3) -> None:
        if patience < 1:
            raise InputError("patience must be at least 1 evaluation")
        forecast.band(level)
        self._forecast, self._level, self._patience = forecast, level, patience
        self.side: Side = "before"
        self.count = 0
        """For how many evaluations in a row the curve has been on this side."""

    def observe(self, step: int, loss: float) -> BandEvent | None:
        """Take an evaluation; an event when this is the `patience`-th in a row on one side outside the band.

        A loss that is not a number counts as above.
        """
        low, high = self._forecast.interval(step, self._level)
        side = self._side(step, loss, low, high)
        self.count = self.count + 1 if side == self.side else 1
        self.side = side
        if side in ("above", "below") and self.count == self._patience:
            return BandEvent(step, side, self.count, loss, low, high, self._level)
        return None

    def _side(self, step: int, loss: float, low: float, high: float) -> Side:
        if step < self._forecast.steps[0]:
            return "before"
        if loss < low:
            return "below"
        return "inside" if loss <= high else "above"

    def __str__(self) -> str:
        if self.side == "before":
            return "warming up"
        return f"{self.side} the {self._level:.0%} band for {self.count} evaluation{'s' if self.count > 1 else ''}"
