"""The judgement on one change: its worth at each rung, over the ladder and at the target, its trend and a verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenfold.scaling.derisk.comparison import Comparison, check_comparisons, column, groups_of
from tenfold.scaling.derisk.line import Effect, Line, fit_line
from tenfold.scaling.derisk.multiplier import CAP, LogMultipliers, log_multipliers
from tenfold.scaling.derisk.verdict import Trend, Verdict, decide, find_trend
from tenfold.scaling.derisk.worth import Worth
from tenfold.scaling.law import ScalingLaw
from tenfold.scaling.table import BoolArray, Points

DECADE = math.log(10)


@dataclass(frozen=True)
class Scale:
    """One rung: mean over its seeds.

    `capped`: the reference law does not reach some loss (it may lie below its floor); it counts as CAP, and the
    interval is open on that side.
    """

    rung: str
    trunk: str
    compute: float
    worth: Worth
    seeds: int
    capped: bool

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        plain = {name: value for name, value in vars(self).items() if name != "worth"}
        return {**plain, **self.worth.record()}


@dataclass(frozen=True)
class Target:
    """Where the change is to be used: N, D, compute in FLOP, and how far that is beyond the ladder."""

    parameters: float
    tokens: float
    compute: float
    decades_beyond: float


@dataclass(frozen=True)
class Assessment:
    """What a ladder with and without one change says.

    `slope_per_decade` is the factor on the multiplier for ten times the compute; `noise` the standard deviation of
    ln(L_changed / L_reference) of one comparison; `correlation` the share of its square that cool-downs of one trunk
    have in common; `degrees_of_freedom` those of the pooled multiplier; `seeds` the number of different seeds.
    """

    verdict: Verdict
    why: str
    trend: Trend
    slope_per_decade: Worth
    pooled: Worth
    at_target: Worth
    target: Target
    scales: tuple[Scale, ...]
    noise: float
    correlation: float | None
    degrees_of_freedom: float
    seeds: int

    def record(self) -> dict[str, Any]:
        """The same as JSON values; low and high are 80% intervals."""
        return {
            "verdict": self.verdict,
            "why": self.why,
            "trend": self.trend,
            "slope_per_decade": self.slope_per_decade.record(),
            "pooled": self.pooled.record(),
            "at_target": {**vars(self.target), **self.at_target.record()},
            "scales": [scale.record() for scale in self.scales],
            "noise": self.noise,
            "correlation": self.correlation,
            "degrees_of_freedom": self.degrees_of_freedom,
            "seeds": self.seeds,
        }


def assess(reference: ScalingLaw, comparisons: Sequence[Comparison], target: tuple[float, float]) -> Assessment:
    """Judge a change by its comparisons, for a target of (parameters, tokens).

    Raises InputError for numbers that are none, comparisons given twice, and too few sizes or trunks to know noise by.
    """
    check_comparisons(comparisons)
    goal = reference.points(*target)
    return judge(log_multipliers(reference, comparisons), comparisons, goal)


def judge(measured: LogMultipliers, comparisons: Sequence[Comparison], target: Points) -> Assessment:
    """The statistics alone: n measured comparisons, and the target as one point."""
    log_compute = column(comparisons, "compute")
    line = fit_line(log_compute, measured.value, measured.slope, groups_of(comparisons))
    goal, largest = float(target.c[0]), float(log_compute.max())
    effects = (line.pooled, line.at(goal), line.slope, _times(line.slope, DECADE))
    pooled, at_target, slope, slope_per_decade = _worths(effects, measured)
    trend = find_trend(pooled, slope, max(goal - line.middle, float(np.ptp(log_compute))))
    verdict, why = decide(pooled, at_target, trend)
    return Assessment(
        verdict=verdict,
        why=why + _capped_note(measured),
        trend=trend,
        slope_per_decade=slope_per_decade,
        pooled=pooled,
        at_target=at_target,
        target=Target(math.exp(target.n[0]), math.exp(target.d[0]), math.exp(goal), max(0.0, goal - largest) / DECADE),
        scales=_scales(measured, comparisons, line),
        noise=line.noise,
        correlation=line.correlation,
        degrees_of_freedom=line.pooled.freedom,
        seeds=len({comparison.seed for comparison in comparisons}),
    )


def _worths(effects: Sequence[Effect], measured: LogMultipliers) -> list[Worth]:
    """Each with its interval, open where a capped comparison might pull it further than its cap does."""
    weights = np.stack([effect.weights for effect in effects])
    pulls, spreads = weights * measured.capped, measured.law_spread(weights)
    return [
        Worth.of(effect, float(spread)).opened(up=bool((pull > 0).any()), down=bool((pull < 0).any()))
        for effect, spread, pull in zip(effects, spreads, pulls, strict=True)
    ]


def _times(effect: Effect, factor: float) -> Effect:
    return Effect(factor * effect.weights, factor * effect.value, factor**2 * effect.variance, effect.freedom)


def _scales(measured: LogMultipliers, comparisons: Sequence[Comparison], line: Line) -> tuple[Scale, ...]:
    """Every rung in order of compute."""
    names = np.array([comparison.rung for comparison in comparisons])
    firsts = {comparison.rung: comparison for comparison in reversed(comparisons)}
    ordered = sorted(firsts.values(), key=lambda comparison: (comparison.compute, comparison.rung))
    rows = [names == first.rung for first in ordered]
    worths = _worths([_mean_of(row, measured, line) for row in rows], measured)
    return tuple(
        Scale(first.rung, first.trunk, first.compute, worth, int(row.sum()), bool(measured.capped[row].any()))
        for first, row, worth in zip(ordered, rows, worths, strict=True)
    )


def _mean_of(rows: BoolArray, measured: LogMultipliers, line: Line) -> Effect:
    """Mean over the seeds of one rung, their noise being that of the whole ladder."""
    weights = rows / rows.sum()
    variance = line.noise**2 * float(weights**2 @ measured.slope**-2)
    return Effect(weights, float(weights @ measured.value), variance, line.noise_freedom)


def _capped_note(measured: LogMultipliers) -> str:
    capped = int(np.count_nonzero(measured.capped))
    if not capped:
        return ""
    losses = f"{capped} of {len(measured.capped)} losses"
    return f"; {losses} are beyond what the reference law reaches and count as {CAP:g}x (or 1/{CAP:g})"
