"""Thins a curve for the screen without losing a spike: the lowest and the highest point of each pixel column.

Sampling at random, or the mean of a bin, hides a spike of one step; the extremes of a column draw the very pixels that
all of its points would (M4, Jugel et al., VLDB 2014, of which this keeps two of the four points).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Thinned:
    """What is left of a curve, in order of step. `not_finite`: the first such step of each column."""

    steps: Steps
    values: Values
    not_finite: Steps


@dataclass(frozen=True)
class Means:
    """Mean value of each of the groups of `width` steps, and the step in its middle."""

    steps: Steps
    values: Values
    width: int


def thin(steps: Steps, values: Values, low: int, high: int, columns: int) -> Thinned:
    """The curve from step `low` to `high` as at most two points a column, and the one point beyond either end.

    `steps` rise strictly. A curve with no more than two points a column comes back whole.
    """
    begin, end = int(np.searchsorted(steps, low)), int(np.searchsorted(steps, high, side="right"))
    inner, inside = steps[begin:end], values[begin:end]
    finite = np.isfinite(inside)
    broken = _first_of_column(inner[~finite], low, high, columns)
    kept = _extremes(inner[finite], inside[finite], low, high, columns)
    before, after = slice(max(begin - 1, 0), begin), slice(end, end + 1)
    shown = [steps[before], inner[finite][kept], steps[after]]
    of_shown = [values[before], inside[finite][kept], values[after]]
    joined = np.concatenate(of_shown)
    there = np.isfinite(joined)
    return Thinned(np.concatenate(shown)[there], joined[there], broken)


def _column_of(steps: Steps, low: int, high: int, columns: int) -> Steps:
    """Number of the pixel column that each step lies in."""
    return (steps - low) * columns // max(high - low + 1, 1)


def _first_of_column(steps: Steps, low: int, high: int, columns: int) -> Steps:
    _, first = np.unique(_column_of(steps, low, high, columns), return_index=True)
    return steps[first]


def _extremes(steps: Steps, values: Values, low: int, high: int, columns: int) -> Steps:
    """Positions of the first lowest and first highest value of each column, and of the two ends."""
    if len(steps) <= 2 * columns:
        return np.arange(len(steps))
    starts = np.flatnonzero(np.diff(_column_of(steps, low, high, columns), prepend=-1))
    lengths = np.diff(np.append(starts, len(steps)))
    found = [np.array([0, len(steps) - 1])]
    for extreme in (np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)):
        hits = np.flatnonzero(values == np.repeat(extreme, lengths))
        found.append(hits[np.searchsorted(hits, starts)])
    return np.unique(np.concatenate(found))


def means(steps: Steps, values: Values, low: int, high: int, groups: int) -> Means:
    """The finite values from `low` to `high` averaged over about `groups` stretches of equal width."""
    inside = (steps >= low) & (steps <= high) & np.isfinite(values)
    width = max(-(-(high - low + 1) // groups), 1)
    inner = steps[inside]
    if not len(inner):
        return Means(inner, values[inside], width)
    starts = np.flatnonzero(np.diff(inner // width, prepend=-1))
    counts = np.diff(np.append(starts, len(inner)))
    middles = np.add.reduceat(inner, starts) // counts
    return Means(middles, np.add.reduceat(values[inside], starts) / counts, width)
