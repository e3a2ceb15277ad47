"""How far to trust the order of layouts.

Whoever takes the fastest forecast of thousands takes one whose error may flatter it. An error has a part that all
layouts of a shape share, which changes no order, parts that layouts share which have the same tensor-parallel degree or
micro-batch, and a part of each layout's own. Here truths around the forecasts are drawn, and the outcomes counted.
"""

from dataclasses import dataclass

import numpy as np

from tenfold.planner.calibration.calibrated import NINETY
from tenfold.planner.cost.layout import Array
from tenfold.planner.search.layouts import FoundLayouts

TENSOR_SPREAD, MICRO_BATCH_SPREAD, OWN_SPREAD = 0.07, 0.05, 0.04
"""Standard deviations of the parts, in logarithms of forecast over measured.

From pairs of runs with one shape, machine and batch, both within 1.5 times of the fastest there, of vTrain (arXiv
2312.12391) on one node and on several. Half the mean square of how their errors differ has the root 0.022 and 0.043
where only the pipeline differs, 0.063 and 0.042 where only the micro-batch does, 0.144 and 0.065 where only tensor
does, 0.091 and 0.087 where all three do (`benchmarks/plan_search.py --rows`, which also compares regret drawn and
seen)."""
ENOUGH = 0.01
"""Regret that is as good as none."""
FARTHEST = 2.0
"""Layouts that might be the fastest are forecast at no more than twice the time of the first. Those that are alike
count as one, and are fast or slow together."""


@dataclass(frozen=True)
class Regret:
    """Effect of errors of the forecast on the choice of a layout."""

    own_spread: float
    """Of the error that differs between layouts, in logarithms."""
    common_spread: float
    """Of the error that all layouts share: what is left of the interval."""
    chances: tuple[float, ...]
    """That each of `Found.best` is the fastest of all."""
    after: tuple[float, ...]
    """Expected regret when the first one, two... of `Found.best` are tried and the fastest of them is kept."""
    tries: int
    """Fewest that must be tried, from the first on, for an expected regret of at most ENOUGH."""

    @property
    def first(self) -> float:
        """Expected regret of taking the first untried: 0.02 is 2% slower than the truly fastest."""
        return self.after[0]


def regret(found: FoundLayouts, *, draws: int = 1000, seed: int = 0) -> Regret:
    """Draw the errors of all layouts that might be the fastest, `draws` times."""
    kept = len(found.best)
    farthest = found.seconds[0] * FARTHEST
    pool = [place for number, place in enumerate(found.places) if number < kept or found.seconds[place] <= farthest]
    forecast = found.seconds[pool]
    errors = draw_errors(found.tensor[pool], found.micro_batch[pool], draws, np.random.default_rng(seed))
    true = forecast * np.exp(errors)
    won = np.bincount(np.argmin(true, axis=1), minlength=len(pool))[:kept]
    after = np.mean(np.minimum.accumulate(true, axis=1) / np.min(true, axis=1, keepdims=True), axis=0) - 1
    own = float(np.sqrt(TENSOR_SPREAD**2 + MICRO_BATCH_SPREAD**2 + OWN_SPREAD**2))
    width = float(np.log(found.best[0].high / found.best[0].seconds)) / NINETY
    return Regret(
        own_spread=own,
        common_spread=float(np.sqrt(max(width**2 - own**2, 0.0))),
        chances=tuple(float(each) for each in won / draws),
        after=tuple(float(each) for each in after[:kept]),
        tries=int(np.argmax(after <= ENOUGH)) + 1,
    )


def draw_errors(tensor: Array, micro_batch: Array, draws: int, random: np.random.Generator) -> Array:
    """Errors of each layout that change the order, in logarithms: shape (draws, layouts)."""
    return (
        _shared(tensor, TENSOR_SPREAD, draws, random)
        + _shared(micro_batch, MICRO_BATCH_SPREAD, draws, random)
        + OWN_SPREAD * random.standard_normal((draws, len(tensor)))
    )


def _shared(labels: Array, spread: float, draws: int, random: np.random.Generator) -> Array:
    """One error for each different label."""
    different, which = np.unique(labels, return_inverse=True)
    errors: Array = spread * random.standard_normal((draws, len(different)))[:, which]
    return errors
