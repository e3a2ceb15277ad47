"""The laws that forecast together, how far they disagree, and intervals that hold.

Several candidates usually backtest alike, and which of them comes first is partly luck. The forecast is the median of
those close to the best, which errs less than the best alone; their spread is the uncertainty of form.

The bootstrap knows how runs scatter, not that the law itself drifts with scale. So each forecast gets a scale: noise of
runs, bootstrap, spread over forms, drift by distance. The errors of one table's backtests go the same way at all its
origins, too few to calibrate anything by; they only move the drift, away from what is usual over published tables. By
how much the scale is multiplied was measured over whole tables, each left out in its turn (docs/scaling.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from tenfold.scaling.backtest import Backtest, BacktestOrigin, Candidate, CandidateScore, distance_from
from tenfold.scaling.table import FloatArray, Points, RunTable

CLOSE = 2.0  # times the best backtest error, up to which a candidate has a say
CENTRAL = tuple(round(100 * float(ndtr(side)), 2) for side in (-1, 1))
"""Percentiles one standard deviation either side of a normal's middle, to two digits."""
LEVELS = (0.5, 0.8, 0.95)
USUAL_DRIFT, USUAL_ORIGINS = 0.015, 3.0  # ln loss at one decade, and how many independent origins that counts as
NESTED = 0.5  # of an origin: each cut holds most of the runs of the next
DRIFT_POWER = 1.5  # of the decades: more than a random walk's root, less than a steady drift's square, in variance
NEAREST, CLOSEST_ORIGIN = 0.1, 0.2  # decades
WIDEST_NEAR, WIDEST_BY_DECADE = 0.1, 0.05  # 80% half-width at most, in ln loss: wider says only that nothing is known
ORIGIN_REPLICATES = 40
NORMAL_MAD = round(1 / float(ndtri(0.75)), 4)  # median absolute deviation to standard deviation
LEAST_NOISE = 1e-4  # in ln loss: no table is free of it


def student(level: float, freedom: float) -> float:
    """Half width, in standard deviations, of the two-sided interval at `level` of Student's t."""
    return float(stdtrit(freedom, (1 + level) / 2))


STUDENT = {level: round(student(level, 4), 2) for level in LEVELS}
"""Quantiles of |t| at 4 degrees of freedom, to two digits, for laws that were not measured on published tables."""
MEASURED = {0.5: 0.28, 0.8: 0.62, 0.95: 1.18}
"""Stretch of the scale that held the errors of published tables at each level; below 1, drift being a mean square."""


@dataclass(frozen=True)
class Committee:
    """Candidates with coefficients (1, p) fitted to the same runs, best first; bootstrap refits (B, p) of the best."""

    members: tuple[tuple[Candidate, FloatArray], ...]
    replicates: FloatArray

    @property
    def best(self) -> Candidate:
        """The candidate with the lowest backtest error."""
        return self.members[0][0]

    def log_loss(self, points: Points) -> FloatArray:
        """Median forecast of ln L, shape (m,)."""
        median: FloatArray = np.median(self._forecasts(points), axis=0)
        return median

    def form_spread(self, points: Points) -> FloatArray:
        """Root mean square distance of the members from their median, in ln L, shape (m,)."""
        forecasts = self._forecasts(points)
        spread: FloatArray = np.sqrt(np.mean((forecasts - np.median(forecasts, axis=0)) ** 2, axis=0))
        return spread

    def sampling_spread(self, points: Points) -> FloatArray:
        """One standard deviation over bootstrap replicates of the best member, in ln L, shape (m,)."""
        low, high = np.percentile(self.best.law.log_loss(self.replicates, points), CENTRAL, axis=0)
        half: FloatArray = (high - low) / 2
        return half

    def _forecasts(self, points: Points) -> FloatArray:
        return np.concatenate([candidate.law.log_loss(found, points) for candidate, found in self.members])


def form_committee(
    runs: RunTable,
    ranking: Sequence[CandidateScore],
    fits: Mapping[Candidate, FloatArray],
    replicates: int,
    seed: int,
) -> Committee:
    """The candidates within CLOSE of the best that can be fitted to `runs`; the simplest law without a ranking."""
    able = [score for score in ranking if score.candidate in fits]
    close = [score.candidate for score in able if score.error <= CLOSE * able[0].error]
    named = close or [min(fits, key=lambda candidate: len(candidate.law.parameters))]
    distinct = {(candidate.law.name, fits[candidate].tobytes()): candidate for candidate in reversed(named)}
    members = tuple((candidate, fits[candidate]) for candidate in reversed(distinct.values()))
    return Committee(members, bootstrap(runs, *members[0], replicates, seed))


def bootstrap(runs: RunTable, candidate: Candidate, coefficients: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Refits (B, p) of a candidate to runs drawn with replacement; rows of one run are drawn together."""
    _, run = np.unique(runs.run, return_inverse=True)
    count = int(run.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    kept = candidate.view.weights(runs)
    rows = kept > 0
    found = candidate.law.fit(runs.take(rows), drawn[:, run[rows]].astype(np.float64), coefficients)
    whole = found[np.isfinite(found).all(axis=1)]
    return whole if len(whole) else coefficients


@dataclass(frozen=True)
class IntervalCalibration:
    """Noise of a run and drift per decade, both in ln loss, and by how much the scale is multiplied at each level."""

    noise: float
    seed_noise: float | None
    drift: float
    multipliers: Mapping[float, float]
    origins: int

    def scale(self, committee: Committee, runs: RunTable, points: Points) -> FloatArray:
        """One unit of uncertainty in ln L at each point, shape (m,). Grows with the distance from the runs."""
        return np.minimum(self._unbounded(committee, runs, points), self._most(runs, points))

    def widest(self, runs: RunTable, points: Points, level: float) -> FloatArray:
        """Half-width at `level`, in ln loss, beyond which an interval says nothing, shape (m,)."""
        return self.multipliers[level] * self._most(runs, points)

    def _most(self, runs: RunTable, points: Points) -> FloatArray:
        return (WIDEST_NEAR + WIDEST_BY_DECADE * distance_from(runs, points.c)) / self.multipliers[0.8]

    def _unbounded(self, committee: Committee, runs: RunTable, points: Points) -> FloatArray:
        far = self.drift * np.maximum(distance_from(runs, points.c), NEAREST) ** (DRIFT_POWER / 2)
        sources = (self.noise, committee.sampling_spread(points), committee.form_spread(points), far)
        return np.sqrt(sum(np.square(source) for source in sources))


@dataclass(frozen=True)
class _Trial:
    """One origin forecast by a committee that was chosen on the other origins."""

    origin: BacktestOrigin
    committee: Committee
    errors: FloatArray  # signed, of ln L (m,)


def calibrate(
    runs: RunTable, committee: Committee, backtest: Backtest, seed: int, multipliers: Mapping[float, float]
) -> IntervalCalibration:
    """Estimate noise, and drift from the table's own backtests and what is usual."""
    seeds = seed_noise(runs)
    noise = max(_residual_noise(runs, committee), seeds or 0.0, LEAST_NOISE)
    trials = _trials(backtest, seed)
    return IntervalCalibration(noise, seeds, _drift(trials), multipliers, len(trials))


def _drift(trials: Sequence[_Trial]) -> float:
    """Error of ln loss at one decade: root mean square over the origins, drawn to the usual one."""
    known, squares = USUAL_ORIGINS, USUAL_ORIGINS * USUAL_DRIFT**2
    if trials:
        decades = np.array([float(trial.origin.distance.mean()) for trial in trials])
        errors = np.array([float(np.mean(trial.errors**2)) for trial in trials])
        own = float(np.average(errors / np.maximum(decades, CLOSEST_ORIGIN) ** 2, weights=decades))
        known, squares = known + NESTED * len(trials), squares + NESTED * len(trials) * own
    return math.sqrt(squares / known)


def seed_noise(runs: RunTable) -> float | None:
    """Standard deviation of ln loss among runs that differ in nothing but their seed; None without such runs."""
    points = runs.points
    where = np.round(np.stack([points.n, points.d, points.u], axis=1), 6)
    _, cell = np.unique(where, axis=0, return_inverse=True)
    count = np.bincount(cell)
    freedom = int((count - 1).sum())
    if freedom == 0:
        return None
    mean = np.bincount(cell, runs.log_loss) / count
    return float(np.sqrt(((runs.log_loss - mean[cell]) ** 2).sum() / freedom))


def _residual_noise(runs: RunTable, committee: Committee) -> float:
    """Robust standard deviation of the runs the best member was fitted to about the forecast."""
    kept = committee.best.view.weights(runs) > 0
    residuals = committee.log_loss(runs.points)[kept] - runs.log_loss[kept]
    freedom = max(1, len(residuals) - len(committee.best.law.parameters)) / len(residuals)
    return NORMAL_MAD * float(np.median(np.abs(residuals))) / math.sqrt(freedom)


def _trials(backtest: Backtest, seed: int) -> list[_Trial]:
    """Forecast every origin as if its outcome had no part in the choice of laws."""
    trials = []
    for index, origin in enumerate(backtest.origins):
        fits = {candidate: found for (candidate, at), found in backtest.coefficients.items() if at == index}
        if not fits:
            continue
        ranking = backtest.ranking(fits, without=index)
        committee = form_committee(origin.below, ranking, fits, ORIGIN_REPLICATES, seed)
        errors = committee.log_loss(origin.scored.points) - origin.scored.log_loss
        trials.append(_Trial(origin, committee, errors))
    return trials
