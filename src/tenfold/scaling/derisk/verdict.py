"""From the figures to one word and one sentence."""

import math
from typing import Literal

from tenfold.scaling.derisk.worth import Worth

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
