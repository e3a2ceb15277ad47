"""Effective compute: from a loss, or a pair of losses, to a multiplier of the reference recipe's compute.

One run: a run that reaches, at compute C, the loss the reference law expects at 9.3 C is worth 9.3x the reference. The
reference is scaled at the run's own tokens per parameter, so that a shape off the optimum is not counted as a change of
recipe; the data multiple scales tokens alone.

A pair of runs that differ in one change: ln multiplier = x − ln C_changed, where f(x) = f(ln C_reference) +
ln(L_changed / L_reference) and f is the reference's ln L along the path of constant D/N. Only the law's shape is used,
not its level: where it lies above or below the reference run, it does so for both runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tenfold.core import WIDEST, InputError
from tenfold.scaling.committee import CENTRAL, LEVELS
from tenfold.scaling.predict import ScalingLaw
from tenfold.scaling.table import BoolArray, FloatArray, IntArray, Points

MULTIPLES = 4001
LEAST_GROUPS = 3  # a line through the trunks' means leaves no degree of freedom below that
NUMBERS = ("parameters", "tokens", "compute", "reference_loss", "changed_compute", "changed_loss")
CAP = 1000.0  # a changed run is sought from a thousandth to a thousand times the reference run's compute
HALF = 120  # steps of the grid either side: a straight line between two of them is within 1e-4 of the law
LEAST_SLOPE = 1e-4  # fall of ln L per unit of ln C; a law flatter than this says nothing about compute


@dataclass(frozen=True)
class Multiple:
    """Multiple of the reference's compute (or data); infinite where the reference never reaches the loss."""

    value: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return f"{self.value:.3g}x [{self.low:.3g}, {self.high:.3g}]"


def effective_compute(
    reference: ScalingLaw, parameters: float, tokens: float, loss: float, level: float = 0.8
) -> Multiple:
    """Compute the reference needs for `loss` at the same D/N, over the compute of N and D."""
    root = np.exp(_log_multiples() / 2)
    path = Points.of(parameters * root, tokens * root, reference.runs.flops_factor * parameters * tokens * root**2)
    return _crossing(reference, path, loss, level)


def effective_data(
    reference: ScalingLaw, parameters: float, tokens: float, loss: float, level: float = 0.8
) -> Multiple:
    """Tokens the reference needs for `loss` at the same N, over D."""
    times = np.exp(_log_multiples())
    n = np.full(MULTIPLES, parameters)
    path = Points.of(n, tokens * times, reference.runs.flops_factor * n * tokens * times)
    return _crossing(reference, path, loss, level)


def _log_multiples() -> FloatArray:
    return np.linspace(-math.log(WIDEST), math.log(WIDEST), MULTIPLES)


def _crossing(reference: ScalingLaw, path: Points, loss: float, level: float) -> Multiple:
    """Find where the expected loss, and the interval's two edges, fall to `loss` along the path."""
    if level not in LEVELS:
        raise InputError(f"level = {level}: must be one of {', '.join(map(str, LEVELS))}")
    if not (math.isfinite(loss) and loss > 0):
        raise InputError(f"loss = {loss}: must be a finite number above 0")
    expected, width = reference.log_loss(path), reference.half_widths(path, level)
    goal = math.log(loss)
    middle = _first(expected <= goal, 0)
    low = _last(expected[:middle] - width[:middle] > goal) + 1
    high = _first(expected + width <= goal, middle)
    curves = ((expected, middle), (expected - width, low), (expected + width, high))
    value, least, most = (_multiple(curve, index, goal) for curve, index in curves)
    return Multiple(value, least, most, level)


def _first(mask: BoolArray, start: int) -> int:
    """First index from `start` on where the mask holds; the grid's end if nowhere."""
    found = np.flatnonzero(mask[start:])
    return start + int(found[0]) if len(found) else MULTIPLES


def _last(mask: BoolArray) -> int:
    """Last index where the mask holds; -1 if nowhere."""
    found = np.flatnonzero(mask)
    return int(found[-1]) if len(found) else -1


def _multiple(curve: FloatArray, index: int, goal: float) -> float:
    """The multiple where the curve comes down to the goal just before `index`, by a straight line."""
    if index in (0, MULTIPLES):
        return 0.0 if index == 0 else math.inf
    multiples = _log_multiples()
    before, after = curve[index - 1], curve[index]
    share = (before - goal) / (before - after)
    return math.exp(multiples[index - 1] + share * (multiples[index] - multiples[index - 1]))


@dataclass(frozen=True)
class Comparison:
    """Two runs that differ in the change alone: same rung, seed and data order.

    `rung` is one N and D, `trunk` the run whose cool-downs give several D (one size). N, D and the compute in FLOP are
    counted as the reference law's table counts them; losses are in its unit.
    """

    rung: str
    trunk: str
    seed: int
    parameters: float
    tokens: float
    compute: float
    reference_loss: float
    changed_compute: float
    changed_loss: float


def check_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Raises InputError, naming rung and seed, for a number that is none, a comparison given twice, or too few."""
    seen = set()
    for comparison in comparisons:
        for name in NUMBERS:
            value = getattr(comparison, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{_called(comparison)}: {name} = {value}: must be a finite number above 0")
        if (comparison.rung, comparison.seed) in seen:
            raise InputError(f"{_called(comparison)}: given twice; each rung and seed is compared once")
        seen.add((comparison.rung, comparison.seed))
    groups = {(comparison.trunk, comparison.seed) for comparison in comparisons}
    trunks = {trunk for trunk, _ in groups}
    if len(groups) < LEAST_GROUPS or len(trunks) < 2:
        raise InputError(
            f"{len(trunks)} sizes and {len(groups)} trunks (size and seed) compared: "
            f"a trend and its noise need at least 2 sizes and {LEAST_GROUPS} trunks"
        )


def _called(comparison: Comparison) -> str:
    return f"rung {comparison.rung} seed {comparison.seed}"


def groups_of(comparisons: Sequence[Comparison]) -> IntArray:
    """Number of the (trunk, seed) each comparison belongs to, shape (n,), counted from 0 without gaps."""
    order: dict[tuple[str, int], int] = {}
    return np.array([order.setdefault((c.trunk, c.seed), len(order)) for c in comparisons], dtype=np.int64)


def column(comparisons: Sequence[Comparison], name: str) -> FloatArray:
    """Natural logarithm of one of NUMBERS, shape (n,)."""
    return np.log(np.array([getattr(comparison, name) for comparison in comparisons], dtype=np.float64))


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
    """Find where each curve of a comparison's rung falls to its goal (n,): (curves, n); the grid's end if nowhere."""
    upward, found = _grid()[::-1], np.empty((len(falls), len(goal)))
    for number in np.unique(rung):
        rows = rung == number
        for row, curve in enumerate(falls[:, number, ::-1]):
            found[row, rows] = np.interp(goal[rows], curve, upward)
    return found
