"""Which runs a law is fitted on.

Small runs and runs far off the frontier often follow another law than the target will (warm-up that takes most of the
run, models that see too few tokens). A view keeps the runs near the top and near the frontier; the backtest decides
which view forecasts best.
"""

import math
from dataclasses import dataclass

import numpy as np

from tenfold.scaling.table import FloatArray, RunTable

LN10 = math.log(10.0)
ENVELOPE_SLACK = 0.05  # runs with up to 5% more compute still count as "as much compute"


@dataclass(frozen=True)
class View:
    """Runs within `decades` of compute below the largest, at most `excess` (relative) above the loss frontier."""

    decades: float
    excess: float

    def weights(self, runs: RunTable) -> FloatArray:
        """1 for each run kept, 0 for the others, shape (n,)."""
        c = runs.points.c
        recent = c >= c.max() - self.decades * LN10 - 1e-9
        near = excess_over_frontier(runs) <= math.log1p(self.excess)
        return np.where(recent & near, 1.0, 0.0)

    def describe(self) -> str:
        """In words."""
        parts = [f"in the top {self.decades:g} decades of compute"] if math.isfinite(self.decades) else []
        parts += [f"within {self.excess:.0%} of the loss frontier"] if math.isfinite(self.excess) else []
        return "runs " + " and ".join(parts) if parts else "all runs"


VIEWS = tuple(View(decades, excess) for decades in (math.inf, 2.0, 1.0) for excess in (math.inf, 0.1, 0.05))


def excess_over_frontier(runs: RunTable) -> FloatArray:
    """ln loss of each run above the lowest reached with as much compute or less, shape (n,). Runs are in order of C."""
    c = runs.points.c
    lowest = np.minimum.accumulate(runs.log_loss)
    reach = np.searchsorted(c, c + ENVELOPE_SLACK, side="right") - 1
    excess: FloatArray = runs.log_loss - lowest[reach]
    return excess
