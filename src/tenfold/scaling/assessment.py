"""The judgement on a change: its worth at each rung, over the ladder and at the target, its trend and a verdict.

Several changes at once: the product of what each is worth alone, and whether the stack together holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tenfold.core import InputError
from tenfold.scaling.effect import WORTH_LEVELS, LineEffect, TrendLine, Worth, fit_line
from tenfold.scaling.multiplier import (
    CAP,
    Comparison,
    LogMultipliers,
    check_comparisons,
    column,
    groups_of,
    log_multipliers,
)
from tenfold.scaling.predict import ScalingLaw
from tenfold.scaling.table import LN10, BoolArray, Points

Trend = Literal["grows", "holds", "fades", "unclear"]
Verdict = Literal["adopt", "reject", "undecided"]

STEADY = 0.10  # a multiplier that changes by less than this up to the target holds


def find_trend(pooled: Worth, slope: Worth, distance: float) -> Trend:
    """What becomes of the effect with scale; `slope` is the factor on the multiplier per e-fold of compute.

    The effect is the multiplier's distance from 1 in ln, so a harm grows by falling further below 1 and fades by coming
    nearer to it. grows, fades: the slope's 80% interval excludes 1 (no trend) on that side, and the pooled multiplier's
    excludes 1 too: without an effect there is nothing to grow. holds: even the edges of the slope's 80% interval
    change the multiplier by less than STEADY over `distance` e-folds of compute. Otherwise unclear; with few seeds
    that is the usual answer.
    """
    clear = pooled.above(0.8) or pooled.below(0.8)
    if clear and (slope.above(0.8) or slope.below(0.8)):
        return "grows" if pooled.above(0.8) == slope.above(0.8) else "fades"
    steepest = max(abs(math.log(edge)) for edge in slope.intervals[0.8])
    return "holds" if steepest * distance < math.log1p(STEADY) else "unclear"


def decide(pooled: Worth, at_target: Worth, trend: Trend) -> tuple[Verdict, str]:
    """Verdict and the sentence that says why.

    adopt: the 95% interval of the pooled multiplier lies above 1, and what the line expects at the target is not below
    1. The gain is then measured, and its trend does not take it away. An interval at the target that lies above 1 is
    not enough, being an extrapolation; nor is it asked for, since a few small runs seldom narrow it so far.

    reject: the pooled 95% interval lies below 1 and so does the expectation at the target; or the gain fades and the
    95% interval at the target lies below 1.

    undecided: anything else. A gain that is expected to be a loss at the target (or the reverse) but not firmly is a
    question to a larger rung, not to more seeds. For a change without effect about one experiment in twenty is decided.
    """
    ladder, target = pooled.says(0.95), at_target.says(0.8)
    if pooled.above(0.95) and at_target.value >= 1:
        return "adopt", f"a gain over the ladder, {ladder}, and at the target {target}"
    if pooled.below(0.95) and at_target.value < 1:
        return "reject", f"a loss over the ladder, {ladder}, and at the target {target}"
    if trend == "fades" and at_target.below(0.95):
        return "reject", f"the gain over the ladder, {ladder}, fades to a loss at the target, {at_target.says(0.95)}"
    if pooled.above(0.95):
        return (
            "undecided",
            f"a gain over the ladder, {ladder}, but a loss expected at the target, {target}: add a larger rung",
        )
    if pooled.below(0.95):
        return (
            "undecided",
            f"a loss over the ladder, {ladder}, but a gain expected at the target, {target}: add a larger rung",
        )
    return "undecided", f"the interval over the ladder holds 1, {ladder}: more seeds narrow it"


@dataclass(frozen=True)
class RungWorth:
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
        """JSON values of the rung."""
        plain = {name: value for name, value in vars(self).items() if name != "worth"}
        return {**plain, **self.worth.record()}


@dataclass(frozen=True)
class AssessedTarget:
    """Run that the change is meant for: N, D, compute in FLOP, and its distance beyond the ladder."""

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
    target: AssessedTarget
    scales: tuple[RungWorth, ...]
    noise: float
    correlation: float | None
    degrees_of_freedom: float
    seeds: int

    def record(self) -> dict[str, Any]:
        """JSON values of the assessment; low and high are 80% intervals."""
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
    effects = (line.pooled, line.at(goal), line.slope, _times(line.slope, LN10))
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
        target=AssessedTarget(
            math.exp(target.n[0]), math.exp(target.d[0]), math.exp(goal), max(0.0, goal - largest) / LN10
        ),
        scales=_scales(measured, comparisons, line),
        noise=line.noise,
        correlation=line.correlation,
        degrees_of_freedom=line.pooled.freedom,
        seeds=len({comparison.seed for comparison in comparisons}),
    )


def _worths(effects: Sequence[LineEffect], measured: LogMultipliers) -> list[Worth]:
    """Worths of effects, their intervals open where a capped comparison might pull further than its cap does."""
    weights = np.stack([effect.weights for effect in effects])
    pulls, spreads = weights * measured.capped, measured.law_spread(weights)
    return [
        Worth.of(effect, float(spread)).opened(up=bool((pull > 0).any()), down=bool((pull < 0).any()))
        for effect, spread, pull in zip(effects, spreads, pulls, strict=True)
    ]


def _times(effect: LineEffect, factor: float) -> LineEffect:
    return LineEffect(factor * effect.weights, factor * effect.value, factor**2 * effect.variance, effect.freedom)


def _scales(measured: LogMultipliers, comparisons: Sequence[Comparison], line: TrendLine) -> tuple[RungWorth, ...]:
    """Every rung in order of compute."""
    names = np.array([comparison.rung for comparison in comparisons])
    firsts = {comparison.rung: comparison for comparison in reversed(comparisons)}
    ordered = sorted(firsts.values(), key=lambda comparison: (comparison.compute, comparison.rung))
    rows = [names == first.rung for first in ordered]
    worths = _worths([_mean_of(row, measured, line) for row in rows], measured)
    return tuple(
        RungWorth(first.rung, first.trunk, first.compute, worth, int(row.sum()), bool(measured.capped[row].any()))
        for first, row, worth in zip(ordered, rows, worths, strict=True)
    )


def _mean_of(rows: BoolArray, measured: LogMultipliers, line: TrendLine) -> LineEffect:
    """Mean over the seeds of one rung, their noise being that of the whole ladder."""
    weights = rows / rows.sum()
    variance = line.noise**2 * float(weights**2 @ measured.slope**-2)
    return LineEffect(weights, float(weights @ measured.value), variance, line.noise_freedom)


def _capped_note(measured: LogMultipliers) -> str:
    capped = int(np.count_nonzero(measured.capped))
    if not capped:
        return ""
    losses = f"{capped} of {len(measured.capped)} losses"
    return f"; {losses} are beyond what the reference law reaches and count as {CAP:g}x (or 1/{CAP:g})"


@dataclass(frozen=True)
class StackCheck:
    """Comparison of all changes together with the product: their ratio, and whether its 95% interval holds 1."""

    held: bool
    ratio: Worth
    why: str

    def record(self) -> dict[str, Any]:
        """JSON values of the check."""
        return {"held": self.held, "ratio": self.ratio.record(), "why": self.why}


def stacked(assessments: Sequence[Assessment]) -> Worth:
    """Product of the multipliers at the target, were the changes independent of each other.

    Half widths in ln add in squares. Changes measured against the same reference runs share those runs' luck, which
    this leaves out. Raises InputError where the assessments are for different targets.
    """
    targets = {assessment.target.compute for assessment in assessments}
    if len(targets) > 1:
        raise InputError(
            f"changes assessed for {len(targets)} different targets cannot be stacked; assess them for one"
        )
    value = sum(math.log(assessment.at_target.value) for assessment in assessments)
    worths = [assessment.at_target for assessment in assessments]
    return Worth.around(value, {level: math.hypot(*(worth.half(level) for worth in worths)) for level in WORTH_LEVELS})


def stack_held(predicted: Worth, measured: Worth) -> StackCheck:
    """Compare the product with what all changes together were measured to be worth; both intervals count."""
    halves = {level: math.hypot(predicted.half(level), measured.half(level)) for level in WORTH_LEVELS}
    ratio = Worth.around(math.log(measured.value / predicted.value), halves)
    both = f"together {measured.says(0.95)}, as a product {predicted.says(0.95)}: the ratio {ratio.says(0.95)}"
    if ratio.below(0.95):
        return StackCheck(False, ratio, f"{both} lies below 1, the changes overlap")
    if ratio.above(0.95):
        return StackCheck(False, ratio, f"{both} lies above 1, the changes help each other")
    return StackCheck(True, ratio, f"{both} holds 1, the gains multiply as far as these runs can tell")
