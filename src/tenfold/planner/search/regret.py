"""How far to trust the order of layouts.

Whoever takes the fastest forecast of thousands takes one whose error happens to flatter it. An error has a part that
all layouts of a shape share, which changes no order, and a part of each layout's own. Here own errors are drawn, and
the outcomes counted. They are drawn independently, though layouts that differ little err alike: so the chances of the
first are rather better than said, and fewer trials are needed.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.calibration import Calibrated
from tenfold.planner.cost.numbers import Array
from tenfold.planner.search.layouts import NINETY, Found
from tenfold.planner.search.question import Question

OWN_SPREAD = 0.09
"""Standard deviation of the logarithm of forecast over measured, among layouts of one shape on one machine with one
batch: 1,376 runs in 120 such groups of vTrain (arXiv 2312.12391) on one node 0.090, 48 of InternEvo 0.090, 145 of
Megatron-Bridge 0.103, 109 of vTrain on several nodes 0.124 (`benchmarks/plan_search.py --rows`)."""
ENOUGH = 0.01
"""Regret that is as good as none."""
POOL = 1000


@dataclass(frozen=True)
class Regret:
    """What errors of the forecast do to the choice of a layout."""

    own_spread: float
    common_spread: float
    """Of the error that all layouts share, in logarithms: what is left of the interval."""
    chances: tuple[float, ...]
    """That each of `Found.best` is the fastest of all."""
    after: tuple[float, ...]
    """Expected regret when the first one, two... of `Found.best` are tried and the fastest of them is kept."""
    tries: int
    """Fewest that must be tried, from the first on, for an expected regret of at most ENOUGH."""
    optimism: float
    """Share by which the first takes longer than forecast, on average, because it was picked for its forecast."""

    @property
    def first(self) -> float:
        """Expected regret of taking the first untried: 0.02 is 2% slower than the truly fastest."""
        return self.after[0]


def regret(
    found: Found,
    question: Question,
    calibrated: Calibrated,
    *,
    own_spread: float = OWN_SPREAD,
    draws: int = 1000,
    seed: int = 0,
) -> Regret:
    """Draw the errors of all layouts that might be the fastest, `draws` times."""
    pool = _pool(found.seconds, own_spread)
    random = np.random.default_rng(seed)
    true = pool * np.exp(own_spread * random.standard_normal((draws, len(pool))))
    kept = len(found.best)
    won = np.bincount(np.argmin(true, axis=1), minlength=kept)
    after = np.mean(np.minimum.accumulate(true, axis=1) / np.min(true, axis=1, keepdims=True), axis=0) - 1
    width = calibrated.half_width(question.framework, question.cluster.devices, experts=question.experts) / NINETY
    return Regret(
        own_spread=own_spread,
        common_spread=float(np.sqrt(max(width**2 - own_spread**2, 0.0))),
        chances=tuple(float(each) for each in won[:kept] / draws),
        after=tuple(float(each) for each in after[:kept]),
        tries=int(np.argmax(after <= ENOUGH)) + 1,
        optimism=_optimism(pool, true),
    )


def _pool(seconds: Array, own_spread: float) -> Array:
    """Those that are not too slow to be the fastest: six standard deviations of a difference."""
    return seconds[seconds <= seconds[0] * np.exp(6 * np.sqrt(2) * own_spread)][:POOL]


def _optimism(true: Array, forecasts: Array) -> float:
    """Were `true` (layouts,) the truth and each row of `forecasts` a forecast of it: what the picked ones hide."""
    picked = np.argmin(forecasts, axis=1)
    return float(np.mean(true[picked] / forecasts[np.arange(len(forecasts)), picked])) - 1
