"""Rows whose loss is far from what the other rows of their table say: a slipped digit, a run that broke.

Every run is held against a law fitted to all the others. One far off may show a misfit of the law only, so a second,
plainer witness is asked: a run with no less of N, D and distinct tokens that did worse (for a loss too low), or one with
no more of them that did better (for one too high). Runs that have no such neighbour must be further off. A row found
odd is left out of the fits and named; where many are, it is the table that is odd, and none is left out.
"""

import math
from dataclasses import dataclass

import numpy as np

from tenfold.scaling.laws import HOFFMANN, TIED
from tenfold.scaling.solve import Effort
from tenfold.scaling.table import BoolArray, FloatArray, RunTable
from tenfold.scaling.terms import COMPUTE, LEVEL_WIDTH, Law

NORMAL_MAD = 1.4826
FAR_OFF, FAR_OFF_ALONE = 0.05, 0.2  # in ln loss
SPREADS = 6.0  # robust standard deviations of the distances
WITNESS = 0.4  # share of the distance by which a neighbour must contradict a run
MOST_LEFT_OUT = 0.1  # of the runs; one is always allowed
LEAST_RUNS = 7
ONE_BY_ONE = 80  # runs up to which each is left out in its turn; beyond, one run hardly moves a robust fit
EFFORT = Effort(60, 1e-6)


@dataclass(frozen=True)
class OddRow:
    """A row that was left out: its line in the file, its loss and the loss that the other runs expect there."""

    line: int
    loss: float
    expected: float

    def __str__(self) -> str:
        far, side = abs(self.loss / self.expected - 1), "below" if self.loss < self.expected else "above"
        return (
            f"row {self.line} left out: its loss {self.loss:.4g} is {far:.0%} {side} the {self.expected:.4g} "
            "that the other runs say; check it"
        )


def without_odd_rows(runs: RunTable) -> tuple[RunTable, tuple[OddRow, ...]]:
    """The runs that can be fitted together, and those left out."""
    law = _law_for(runs)
    if law is None:
        return runs, ()
    expected = _expected_by_the_others(law, runs)
    off = runs.log_loss - expected
    spread = NORMAL_MAD * float(np.median(np.abs(off - np.median(off))))
    far = np.abs(off) > max(FAR_OFF, SPREADS * spread)
    odd = far & (_contradicted(runs, off) | (np.abs(off) > FAR_OFF_ALONE) & _without_neighbours(runs, off > 0))
    if not 0 < odd.sum() <= max(1, MOST_LEFT_OUT * len(runs)):
        return runs, ()
    rows = zip(runs.line[odd], runs.log_loss[odd], expected[odd], strict=True)
    return runs.take(~odd), tuple(OddRow(int(line), math.exp(loss), math.exp(other)) for line, loss, other in rows)


def _no_less(runs: RunTable) -> BoolArray:
    """[i, j]: run j has no less of N, D and distinct tokens than run i, and is another run."""
    points = runs.points
    more = [values[None, :] >= values[:, None] - LEVEL_WIDTH for values in (points.n, points.d, points.u)]
    others: BoolArray = np.logical_and.reduce(more) & ~np.eye(len(runs), dtype=bool)
    return others


def _contradicted(runs: RunTable, off: FloatArray) -> BoolArray:
    """A run with no less did worse (where a loss is too low), or one with no more did better, shape (n,)."""
    more, rise = _no_less(runs), runs.log_loss[None, :] - runs.log_loss[:, None]
    enough = WITNESS * np.abs(off)
    return np.where(off > 0, (more & (rise > enough[None, :])).any(axis=0), (more & (rise > enough[:, None])).any(axis=1))


def _without_neighbours(runs: RunTable, high: BoolArray) -> BoolArray:
    more = _no_less(runs)
    return ~np.where(high, more.any(axis=0), more.any(axis=1))


def _law_for(runs: RunTable) -> Law | None:
    """The form that the runs without any one of them identify."""
    if len(runs) < LEAST_RUNS:
        return None
    return next((law for law in (HOFFMANN, TIED, COMPUTE) if law.obstacle(runs) is None), None)


def _expected_by_the_others(law: Law, runs: RunTable) -> FloatArray:
    """ln loss (n,) that a fit to the other runs expects of each run."""
    count = len(runs)
    if count > ONE_BY_ONE:
        return law.log_loss(law.fit(runs, np.ones((1, count))), runs.points)[0]
    fits = law.fit(runs, 1.0 - np.eye(count))
    return np.diagonal(law.log_loss(fits, runs.points)).copy()
