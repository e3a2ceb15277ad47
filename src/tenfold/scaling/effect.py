"""A straight line of the ln multiplier over ln C, when cool-downs of one trunk share its luck.

Noise of ln L is compound-symmetric: one part common to the cool-downs of a (trunk, seed), one part each has for itself.
Least squares under such noise splits in two that are independent: a line through the trunks' means, and one through the
differences within trunks (recovery of inter-block information: Yates, Annals of Eugenics 10, 1940). Each
has its own mean square and degrees of freedom; the slope is the mean of theirs, weighted by precision.

A worth is such an effect as a multiplier of compute with intervals.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from scipy.special import ndtri

from tenfold.core import WIDEST, InputError
from tenfold.scaling.committee import student
from tenfold.scaling.table import FloatArray, IntArray

LEAST_NOISE = 1e-5  # of ln L: two runs differ by rounding alone
SAME = 1e-6  # mean square of ln C about its mean, below which computes count as one
WORTH_LEVELS = (0.8, 0.95)


@dataclass(frozen=True)
class LineEffect:
    """A weighted sum of n ln multipliers, with the variance that noise of runs gives it.

    `weights` (n,); `freedom`: the degrees of freedom the variance was estimated with.
    """

    weights: FloatArray
    value: float
    variance: float
    freedom: float


@dataclass(frozen=True)
class TrendLine:
    """pooled + slope · (ln C − middle), from the trunks' means (between) and the differences inside trunks (within).

    `noise` is the standard deviation of ln(L_changed / L_reference) of one comparison, `correlation` the share of its
    square that cool-downs of one trunk have in common; None with one cool-down a trunk.
    """

    middle: float
    pooled: LineEffect
    slope: LineEffect
    noise: float
    noise_freedom: float
    correlation: float | None
    between_share: float
    freedoms: tuple[int, int]

    def at(self, log_compute: float) -> LineEffect:
        """The line's value there; its variance grows with the square of the distance from the middle."""
        away = log_compute - self.middle
        extrapolated = away**2 * self.slope.variance
        parts = (
            self.pooled.variance + self.between_share * extrapolated,
            (1 - self.between_share) * extrapolated,
        )
        return LineEffect(
            self.pooled.weights + away * self.slope.weights,
            self.pooled.value + away * self.slope.value,
            sum(parts),
            _satterthwaite(parts, self.freedoms),
        )


@dataclass(frozen=True)
class _Stratum:
    """A slope of its own, from the trunks' means or from inside the trunks."""

    weights: FloatArray
    slope: float
    variance: float
    mean_square: float
    freedom: int


def fit_line(log_compute: FloatArray, value: FloatArray, fall: FloatArray, group: IntArray) -> TrendLine:
    """Fit to n ln multipliers at ln C (n,).

    `fall` (n,) of ln L per unit of ln C turns noise of the multipliers into noise of ln L, which is taken to be alike
    everywhere. `group` (n,) as groups_of gives it, at least three. Raises InputError where all trunks have the same
    mean of ln C.
    """
    weight = fall**2
    member = np.eye(int(group.max()) + 1)[group]
    average = member * weight[:, None] / (weight @ member)
    trunk_weight = weight @ member / member.sum(axis=0)
    shares = trunk_weight / trunk_weight.sum()
    x, y = log_compute @ average, value @ average
    middle, height = float(shares @ x), float(shares @ y)
    between = _stratum(x - middle, y - height, trunk_weight, len(x) - 2)
    if between is None:
        raise InputError("all sizes were compared at the same compute: a trend needs two that differ")
    within = _stratum(log_compute - x[group], value - y[group], weight, len(value) - len(x) - 1)
    pooled = LineEffect(average @ shares, height, between.mean_square / float(trunk_weight.sum()), between.freedom)
    return _combine(middle, pooled, replace(between, weights=average @ between.weights), within, len(value) / len(x))


def _stratum(x: FloatArray, y: FloatArray, weight: FloatArray, freedom: int) -> _Stratum | None:
    """Weighted least squares through the origin; None without spread in x or without a degree of freedom."""
    spread = float(weight @ x**2)
    if freedom < 1 or spread <= SAME * float(weight.sum()):
        return None
    weights = weight * x / spread
    slope = float(weights @ y)
    mean_square = max(float(weight @ (y - slope * x) ** 2) / freedom, LEAST_NOISE**2)
    return _Stratum(weights, slope, mean_square / spread, mean_square, freedom)


def _combine(
    middle: float, pooled: LineEffect, between: _Stratum, within: _Stratum | None, cooldowns: float
) -> TrendLine:
    """One slope from both strata, and the noise of one comparison."""
    if within is None:
        slope = LineEffect(between.weights, between.slope, between.variance, between.freedom)
        noise, freedom = between.mean_square, float(between.freedom)
        return TrendLine(middle, pooled, slope, noise**0.5, freedom, None, 1.0, (between.freedom, 1))
    share = within.variance / (between.variance + within.variance)
    freedoms = (between.freedom, within.freedom)
    slope = _mean_slope(between, within, share)
    alone = within.mean_square * (1 - 1 / cooldowns)
    noise = between.mean_square + alone
    return TrendLine(
        middle=middle,
        pooled=pooled,
        slope=slope,
        noise=noise**0.5,
        noise_freedom=_satterthwaite((between.mean_square, alone), freedoms),
        correlation=max(0.0, 1 - within.mean_square / noise),
        between_share=share,
        freedoms=freedoms,
    )


def _mean_slope(between: _Stratum, within: _Stratum, share: float) -> LineEffect:
    """Mean of the two slopes weighted by precision, `share` of it from between the trunks.

    Its variance is corrected for weights that are themselves estimated (Meier, Biometrics 9, 1953), and enlarged by the
    Birge ratio where the slopes disagree by more than their noise: more tokens and a larger model need not act alike.
    """
    estimated = 1 + 4 * share * (1 - share) * (1 / between.freedom + 1 / within.freedom)
    apart = (between.slope - within.slope) ** 2 / (between.variance + within.variance)
    variance = share * between.variance * estimated * max(1.0, apart)
    return LineEffect(
        share * between.weights + (1 - share) * within.weights,
        share * between.slope + (1 - share) * within.slope,
        variance,
        _satterthwaite((share, 1 - share), (between.freedom, within.freedom)),
    )


def _satterthwaite(parts: tuple[float, float], freedoms: tuple[int, int]) -> float:
    """Degrees of freedom of a sum of two estimated variances (Satterthwaite, Biometrics Bulletin 2, 1946)."""
    return sum(parts) ** 2 / sum(part**2 / freedom for part, freedom in zip(parts, freedoms, strict=True))


@dataclass(frozen=True)
class Worth:
    """Multiplier of compute that a change is worth, with intervals: level (0.8, 0.95) to (low, high).

    Never beyond WIDEST or 1 / WIDEST, which stand for anything more extreme.
    """

    value: float
    intervals: Mapping[float, tuple[float, float]]

    @classmethod
    def of(cls, effect: LineEffect, law_spread: float) -> Self:
        """exp of an effect in ln C; Student's interval for noise and the law's standard deviation added in squares."""
        halves = {level: _half_width(effect, law_spread, level) for level in WORTH_LEVELS}
        return cls.around(effect.value, halves)

    @classmethod
    def around(cls, log_value: float, halves: Mapping[float, float]) -> Self:
        """Make a worth from half widths of the ln multiplier, level to width."""
        edges = {level: (_exp(log_value - half), _exp(log_value + half)) for level, half in halves.items()}
        return cls(_exp(log_value), edges)

    def opened(self, up: bool, down: bool) -> "Worth":
        """Open the intervals upwards, downwards or both: nothing is known there."""
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
        """Write it for people: `1.31x [1.25, 1.37] (95%)`."""
        low, high = self.intervals[level]
        return f"{self.value:.3g}x [{low:.3g}, {high:.3g}] ({level:.0%})"

    def record(self) -> dict[str, Any]:
        """JSON values; low and high are the 80% interval's edges, `intervals` has all levels as text."""
        low, high = self.intervals[WORTH_LEVELS[0]]
        intervals = {str(level): list(edges) for level, edges in self.intervals.items()}
        return {"value": self.value, "low": low, "high": high, "level": WORTH_LEVELS[0], "intervals": intervals}


def _exp(log_value: float) -> float:
    return math.exp(min(max(log_value, -math.log(WIDEST)), math.log(WIDEST)))


def _half_width(effect: LineEffect, law_spread: float, level: float) -> float:
    noise = student(level, effect.freedom) * math.sqrt(effect.variance)
    return math.hypot(noise, float(ndtri((1 + level) / 2)) * law_spread)
