"""E-values of residuals, and the e-detector that turns them into alarms.

An e-value is a non-negative figure whose expectation, given everything before it, is at most 1 while nothing is wrong.
The Shiryaev–Roberts e-detector (Shin, Ramdas, Rinaldo, arXiv 2203.03532, definition 2.2) is

    M_t = (M_{t-1} + 1) · E_t,  alarm when M_t ≥ 1/α,

and runs for 1/α steps at least, on average, before a false alarm, whatever the dependence between steps (theorem 2.4):
M_t − t is a supermartingale. A weighted mean of e-detectors is one again, so that a group of signals gives one alarm
without a price for their number beyond the weights.

What this needs is the conditional expectation, and no more: neither independence nor a distribution. Two families are
used, each with a margin, so that the null is not "nothing ever changes" but "changes stay within the margin":

* `jump_e_value` needs that, given the past, a standardised residual lies above (threshold + margin) + excess · y with
  probability at most p0 · (1 + ξ y)^(−1/ξ): a generalised Pareto tail. The threshold is tracked so that a share p0 of
  the residuals lies above it in the long run, whatever they are (Gibbs and Candès, arXiv 2106.00170), and the excess is
  the mean by which they do. Ranks in a window would need no tail but cannot speak of a single step: the smallest
  p-value of 1,000 ranks is 1e-3, and an alarm at once needs 1e-5.
* `drift_e_value` needs that the expectation of a clipped residual, less its margin, is at most 0 given the past. For
  the training loss, which falls, this is what "no divergence" means; heavy tails and noise of any shape are covered,
  since the residual is clipped. It fails where the signal wanders by more than the margin within its reference's
  memory.

What cannot be proved of a signal (that its margin suffices) is measured: `benchmarks/detection` gives the run length
on healthy training beside 1/α.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

TAIL_SHARE = 0.05
"""p0: the share of residuals above their threshold."""
JUMP_BET, JUMP_POWER = 0.5, 0.8
"""Part of the wealth that is bet on a jump, and the power κ of the calibrator (1 − κ) p^(−κ) (Vovk and Wang, 2021)."""
DRIFT_BETS = np.array([0.1, 0.35, 0.8])[:, None]
"""Parts of the wealth bet on a drift: small for small ones, large for quick ones; their e-detectors are averaged."""
LARGEST = 1e200
LARGEST_LOG = 400.0
"""Where e-detectors and logarithms of e-values are cut off, which lowers them and so keeps the guarantee."""


def jump_e_value(above: Floats, tail: Floats) -> Floats:
    """E-value of residuals that lie `above` their threshold by so many mean excesses (≤ 0: below). `tail`: ξ > 0."""
    y = np.maximum(above, 0.0)
    power = np.exp(np.minimum(JUMP_POWER * np.log1p(tail * y) / tail, LARGEST_LOG))
    won = (1 - JUMP_POWER) / TAIL_SHARE * power
    return np.asarray(1 - JUMP_BET + JUMP_BET * np.where(above > 0, won, 0.0))


def drift_e_value(score: Floats) -> Floats:
    """(bets, streams) e-values of scores in [−1, 1] whose expectation, given the past, is at most 0."""
    return np.asarray(1 + DRIFT_BETS * np.clip(score, -1.0, 1.0))


def shiryaev_roberts(before: Floats, e_value: Floats) -> Floats:
    """The e-detectors after one more e-value each."""
    return np.asarray(np.minimum((before + 1) * e_value, LARGEST))
