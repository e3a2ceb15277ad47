"""From two losses to a multiplier of compute, by the reference law anchored at the reference run.

ln multiplier = x − ln C_changed, where f(x) = f(ln C_reference) + ln(L_changed / L_reference) and f is the reference's
ln L along the path of constant D/N. Only the law's shape is used, not its level: where it lies above or below the
reference run, it does so for both runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tenfold.scaling.committee import CENTRAL
from tenfold.scaling.derisk.comparison import Comparison, column
from tenfold.scaling.law import ScalingLaw
from tenfold.scaling.table import FloatArray, IntArray, Points

CAP = 1000.0  # a changed run is sought from a thousandth to a thousand times the reference run's compute
HALF = 120  # steps of the grid either side: a straight line between two of them is within 1e-4 of the law
LEAST_SLOPE = 1e-4  # fall of ln L per unit of ln C; a law flatter than this says nothing about compute


@dataclass(frozen=True)
class LogMultipliers:
    """ln multiplier of n comparisons: by the law (n,), by each of its members (M, n) and bootstrap refits (B, n).

    `slope` (n,) is the fall of ln L per unit of ln C at the reference run: noise of ln L, divided by it, is noise of
    the ln multiplier. `capped` (n,) is 1 for a loss that the law does not reach within CAP times the compute (such as
    one below its floor), -1 for one it does not reach within 1 / CAP, else 0.
    """

    value: FloatArray
    members: FloatArray
    refits: FloatArray
    slope: FloatArray
    capped: IntArray

    def law_spread(self, weights: FloatArray) -> FloatArray:
        """One standard deviation (k,), from the law's own uncertainty, of sums of ln multipliers weighted by (k, n).

        Bootstrap and spread over forms as in Committee, added in squares. Nil for a change without effect: a law that
        is too steep or too flat scales an effect, it does not make one.
        """
        form = (self.members - self.value) @ weights.T
        low, high = np.percentile(self.refits @ weights.T, CENTRAL, axis=0)
        spread: FloatArray = np.hypot(np.sqrt(np.mean(form**2, axis=0)), (high - low) / 2)
        return spread

    def take(self, index: slice) -> "LogMultipliers":
        """The comparisons at `index`."""
        return LogMultipliers(
            self.value[index],
            self.members[:, index],
            self.refits[:, index],
            self.slope[index],
            self.capped[index],
        )


def log_multipliers(reference: ScalingLaw, comparisons: Sequence[Comparison]) -> LogMultipliers:
    """Measure every comparison; seeds of one rung share the law's curve."""
    where = np.stack([column(comparisons, name) for name in ("parameters", "tokens", "compute")])
    rungs, inverse = np.unique(where, axis=1, return_inverse=True)
    rung = inverse.ravel().astype(np.int64)
    curves = _Curves.of(reference, rungs)
    goal = column(comparisons, "changed_loss") - column(comparisons, "reference_loss")
    spent = column(comparisons, "changed_compute") - where[2]
    reached = _crossings(curves.falls, goal, rung)
    value, members, refits = np.split(reached - spent, [1, 1 + curves.members])
    capped = np.where(np.abs(reached[0]) < math.log(CAP) - 1e-9, 0, np.sign(goal) * -1).astype(np.int64)
    return LogMultipliers(value[0], members, refits, curves.slope[rung], capped)


@dataclass(frozen=True)
class _Curves:
    """ln L less that at the reference run, along constant D/N: law, members, refits (1 + M + B, rungs, grid)."""

    falls: FloatArray
    slope: FloatArray
    members: int

    @classmethod
    def of(cls, reference: ScalingLaw, rungs: FloatArray) -> Self:
        """Evaluate all laws around each rung, (3, rungs) of ln N, D and C."""
        step = _grid()[None, :]
        n, d, c = (rungs[i][:, None] + share * step for i, share in enumerate((0.5, 0.5, 1.0)))
        path = Points(n.ravel(), d.ravel(), c.ravel(), d.ravel())
        committee = reference.committee
        members = [candidate.law.log_loss(found, path) for candidate, found in committee.members]
        refits = committee.best.law.log_loss(committee.replicates, path)
        values = np.concatenate([reference.log_loss(path)[None, :], *members, refits])
        curves = values.reshape(len(values), rungs.shape[1], -1)
        falls = _falling(curves - curves[:, :, HALF : HALF + 1])
        slope = (falls[0, :, HALF - 1] - falls[0, :, HALF + 1]) / (_grid()[HALF + 1] - _grid()[HALF - 1])
        return cls(falls, np.maximum(slope, LEAST_SLOPE), sum(map(len, members)))


def _grid() -> FloatArray:
    return np.linspace(-math.log(CAP), math.log(CAP), 2 * HALF + 1)


def _falling(curves: FloatArray) -> FloatArray:
    """The curves with every rise away from the middle flattened, so that each loss is reached once."""
    before = np.maximum.accumulate(curves[..., HALF::-1], axis=-1)[..., ::-1]
    after = np.minimum.accumulate(curves[..., HALF:], axis=-1)
    return np.concatenate([before[..., :-1], after], axis=-1)


def _crossings(falls: FloatArray, goal: FloatArray, rung: IntArray) -> FloatArray:
    """Where each curve of a comparison's rung falls to its goal (n,), shape (curves, n); the grid's end if nowhere."""
    upward, found = _grid()[::-1], np.empty((len(falls), len(goal)))
    for number in np.unique(rung):
        rows = rung == number
        for row, curve in enumerate(falls[:, number, ::-1]):
            found[row, rows] = np.interp(goal[rows], curve, upward)
    return found
