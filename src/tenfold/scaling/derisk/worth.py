"""A multiplier of compute with intervals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from scipy.special import ndtri, stdtrit

from tenfold.scaling.derisk.line import Effect
from tenfold.scaling.effective import WIDEST

LEVELS = (0.8, 0.95)


@dataclass(frozen=True)
class Worth:
    """How many times the compute the change is worth, and intervals: level (0.8, 0.95) to (low, high).

    Never beyond WIDEST or 1 / WIDEST, which stand for anything more extreme.
    """

    value: float
    intervals: Mapping[float, tuple[float, float]]

    @classmethod
    def of(cls, effect: Effect, law_spread: float) -> Self:
        """exp of an effect in ln C; Student's interval for noise and the law's standard deviation added in squares."""
        halves = {level: _half_width(effect, law_spread, level) for level in LEVELS}
        return cls.around(effect.value, halves)

    @classmethod
    def around(cls, log_value: float, halves: Mapping[float, float]) -> Self:
        """From half widths of ln multiplier, level to width."""
        edges = {level: (_exp(log_value - half), _exp(log_value + half)) for level, half in halves.items()}
        return cls(_exp(log_value), edges)

    def opened(self, up: bool, down: bool) -> "Worth":
        """The same with nothing said about how far up, or down, it may be."""
        edges = {
            level: (1 / WIDEST if down else low, WIDEST if up else high)
            for level, (low, high) in self.intervals.items()
        }
        return Worth(self.value, edges)

    def half(self, level: float) -> float:
        """Half the interval's width in ln multiplier."""
        low, high = self.intervals[level]
        return math.log(high / low) / 2

    def above(self, level: float) -> bool:
        """Whether the interval lies above 1."""
        return self.intervals[level][0] > 1

    def below(self, level: float) -> bool:
        """Whether the interval lies below 1."""
        return self.intervals[level][1] < 1

    def says(self, level: float) -> str:
        """For people: `1.31x [1.25, 1.37] (95%)`."""
        low, high = self.intervals[level]
        return f"{self.value:.3g}x [{low:.3g}, {high:.3g}] ({level:.0%})"

    def record(self) -> dict[str, Any]:
        """JSON values; low and high are the 80% interval's edges, `intervals` has all levels as text."""
        low, high = self.intervals[LEVELS[0]]
        intervals = {str(level): list(edges) for level, edges in self.intervals.items()}
        return {"value": self.value, "low": low, "high": high, "level": LEVELS[0], "intervals": intervals}


def _exp(log_value: float) -> float:
    return math.exp(min(max(log_value, -math.log(WIDEST)), math.log(WIDEST)))


def _half_width(effect: Effect, law_spread: float, level: float) -> float:
    quantile = (1 + level) / 2
    noise = float(stdtrit(effect.freedom, quantile)) * math.sqrt(effect.variance)
    return math.hypot(noise, float(ndtri(quantile)) * law_spread)
