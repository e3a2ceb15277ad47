"""A fitted scaling law: what it forecasts, how sure it is, and how it came to be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.scaling.backtest import REACH, Score, distance_from, fit_candidates, obstacles, run_backtest
from tenfold.scaling.calibration import LEVELS, Calibration, calibrate
from tenfold.scaling.committee import Committee, form_committee
from tenfold.scaling.identifiable import check_identifiable
from tenfold.scaling.laws import LAWS, Law
from tenfold.scaling.table import FloatArray, Points, RunTable

REPLICATES = 300
BUDGET_SLACK = 0.05  # decades: runs come in whole steps, so a budget of a tenth is never met exactly
RATIO_SLACK = 1.5  # tokens per parameter this far outside the runs' range is worth a word


@dataclass(frozen=True)
class Forecast:
    """Loss expected at N parameters and D tokens, and intervals: level to (low, high), in the table's unit."""

    parameters: float
    tokens: float
    compute: float
    unique: float
    loss: float
    intervals: dict[float, tuple[float, float]]
    decades_beyond: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ScalingLaw:
    """The laws chosen for a table of runs, with the calibration of their intervals."""

    runs: RunTable
    ranking: tuple[Score, ...]
    committee: Committee
    calibration: Calibration
    skipped: dict[str, str]

    def log_loss(self, points: Points) -> FloatArray:
        """Expected ln L at each point, shape (m,)."""
        return self.committee.log_loss(points)

    def half_widths(self, points: Points, level: float) -> FloatArray:
        """Half the interval's width in ln L at `level`, one of LEVELS, shape (m,)."""
        return self.calibration.multipliers[level] * self.calibration.scale(self.committee, self.runs, points)

    def points(self, parameters: float, tokens: float, unique: float | None = None) -> Points:
        """A target as the table would count it: C = k·ND with the table's own k (6 unless its C says otherwise)."""
        return Points.of(parameters, tokens, self.runs.flops_factor * parameters * tokens, unique)

    def forecast(self, points: Points) -> list[Forecast]:
        """Loss with intervals at each point."""
        expected = self.log_loss(points)
        widths = {level: self.half_widths(points, level) for level in LEVELS}
        beyond = distance_from(self.runs, points.c)
        return [
            Forecast(
                parameters=math.exp(points.n[i]),
                tokens=math.exp(points.d[i]),
                compute=math.exp(points.c[i]),
                unique=math.exp(points.u[i]),
                loss=math.exp(expected[i]),
                intervals={level: _around(expected[i], width[i]) for level, width in widths.items()},
                decades_beyond=float(beyond[i]),
                notes=self._notes(points.take(np.array([i])), float(beyond[i])),
            )
            for i in range(len(points))
        ]

    def _notes(self, point: Points, beyond: float) -> tuple[str, ...]:
        """What the interval cannot know."""
        notes = []
        ratio, seen = float((point.d - point.n)[0]), self.runs.points.d - self.runs.points.n
        if not seen.min() - math.log(RATIO_SLACK) <= ratio <= seen.max() + math.log(RATIO_SLACK):
            low, high = math.exp(seen.min()), math.exp(seen.max())
            notes.append(f"{math.exp(ratio):.3g} tokens per parameter: the runs have {low:.3g} to {high:.3g}")
        if beyond > REACH + BUDGET_SLACK:
            notes.append(f"{beyond:.1f} decades beyond the largest run: backtests reach {REACH:g}")
        if not self.calibration.origins:
            notes.append("too few runs to backtest: the interval rests on a default drift, not on this table's errors")
        return tuple(notes)


def _around(expected: float, width: float) -> tuple[float, float]:
    return math.exp(expected - width), math.exp(expected + width)


def fit_scaling_law(
    runs: RunTable, *, seed: int = 0, replicates: int = REPLICATES, laws: Sequence[Law] = LAWS
) -> ScalingLaw:
    """Backtest every candidate, keep those that forecast best, calibrate their intervals.

    The same runs (in any order) and seed give the same bits. Raises InputError where no law can be identified.
    """
    check_identifiable(runs)
    backtest = run_backtest(runs, laws)
    ranking = backtest.ranking()
    committee = form_committee(runs, ranking, fit_candidates(runs, laws), replicates, seed)
    calibration = calibrate(runs, committee, backtest, seed)
    return ScalingLaw(runs, tuple(ranking), committee, calibration, obstacles(runs, laws))
