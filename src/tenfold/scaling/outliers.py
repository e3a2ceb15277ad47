"""Rows whose loss is far from what the other rows of their table say: a slipped digit, a run that broke.

Every run is held against a law fitted to all the others. One far off may show a misfit of the law only, so a second,
plainer witness is asked: a run with no less of N, D and distinct tokens that did worse (for a loss too low), or one
with no more of them that did better (for one too high). Runs that have no such neighbour must be further off. A row
found odd is left out of the fits and named; where many are, it is the table that is odd, and none is left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tenfold.scaling.committee import NORMAL_MAD
from tenfold.scaling.laws import HOFFMANN, TIED
from tenfold.scaling.table import BoolArray, FloatArray, RunTable
from tenfold.scaling.terms import COMPUTE, LEVEL_WIDTH, Law

FAR_OFF, FAR_OFF_ALONE = 0.05, 0.2  # in ln loss
SPREADS = 6.0  # robust standard deviations of the distances
WITNESS = 0.4  # share of the distance by which a neighbour must contradict a run
MOST_LEFT_OUT = 0.1  # of the runs; one is always allowed
LEAST_RUNS = 7
ONE_BY_ONE = 80  # runs up to which each is left out in its turn; beyond, one run hardly moves a robust fit


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
    """The runs that can be fitted together, and those left out.

    The lowest loss is judged first and alone: every law's floor lies below it, so that one too low bends all fits.
    """
    kept, odd, most = runs, list[OddRow](), max(1, int(MOST_LEFT_OUT * len(runs)))
    while len(odd) <= most and (found := _rows(kept, _lowest)):
        odd, kept = odd + found, _without(kept, found)
    found = _rows(kept, _one_by_one)
    odd, kept = odd + found, _without(kept, found)
    return (kept, tuple(odd)) if 0 < len(odd) <= most else (runs, ())


def _rows(runs: RunTable, judge: Callable[[Law, RunTable], tuple[BoolArray, FloatArray]]) -> list[OddRow]:
    law = _law_for(runs)
    if law is None:
        return []
    found, expected = judge(law, runs)
    rows = zip(runs.line[found], runs.log_loss[found], expected[found], strict=True)
    return [OddRow(int(line), math.exp(loss), math.exp(other)) for line, loss, other in rows]


def _without(runs: RunTable, odd: list[OddRow]) -> RunTable:
    return runs.take(~np.isin(runs.line, [row.line for row in odd]))


def _lowest(law: Law, runs: RunTable) -> tuple[BoolArray, FloatArray]:
    """Whether the lowest loss is odd (n,), and what a fit to the other runs expects everywhere (n,)."""
    lowest = runs.log_loss == runs.log_loss.min()
    others = runs.take(~lowest)
    if law.obstacle(others) is not None:
        return np.zeros(len(runs), dtype=bool), runs.log_loss
    expected = law.log_loss(law.fit(others, np.ones((1, len(others)))), runs.points)[0]
    return _odd(runs, runs.log_loss - expected) & lowest, expected


def _one_by_one(law: Law, runs: RunTable) -> tuple[BoolArray, FloatArray]:
    """Which losses are odd (n,), each against what a fit to the other runs expects of it (n,)."""
    expected = _expected_by_the_others(law, runs)
    return _odd(runs, runs.log_loss - expected), expected


def _odd(runs: RunTable, off: FloatArray) -> BoolArray:
    spread = NORMAL_MAD * float(np.median(np.abs(off - np.median(off))))
    far = np.abs(off) > max(FAR_OFF, SPREADS * spread)
    alone = (np.abs(off) > FAR_OFF_ALONE) & _without_neighbours(runs, off > 0)
    odd: BoolArray = far & (_contradicted(runs, off) | alone)
    return odd


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
    return np.where(
        off > 0, (more & (rise > enough[None, :])).any(axis=0), (more & (rise > enough[:, None])).any(axis=1)
    )


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
    own = np.arange(count)
    alone = count <= ONE_BY_ONE
    forecasts = law.log_loss(law.fit(runs, 1.0 - np.eye(count) if alone else np.ones((1, count))), runs.points)
    expected: FloatArray = forecasts[own if alone else 0, own]
    return expected
