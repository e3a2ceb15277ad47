"""The laws that forecast together, how far they disagree, and intervals that hold.

Several candidates usually backtest alike, and which of them comes first is partly luck. The forecast is the median of
those close to the best, which errs less than the best alone; their spread is the uncertainty of form.

The bootstrap knows how runs scatter, not that the law itself drifts with scale; its 95% intervals cover far less than
95% of larger runs. So each forecast gets a scale (noise of runs, bootstrap, spread over forms, drift by distance), the
backtest's errors are divided by theirs, and the quantiles of these ratios multiply the scale (split conformal
prediction with a scaled score: Lei et al., arXiv 1604.04173, section 5.2).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from tenfold.scaling.backtest import Backtest, BacktestOrigin, Candidate, CandidateScore, distance_from
from tenfold.scaling.table import FloatArray, Points, RunTable

CLOSE = 2.0  # times the best backtest error, up to which a candidate has a say
CENTRAL = tuple(round(100 * float(ndtr(side)), 2) for side in (-1, 1))
"""Percentiles one standard deviation either side of a normal's middle; to two digits, see STUDENT."""
LEVELS = (0.5, 0.8, 0.95)
NO_BACKTEST_DRIFT = 0.02  # ln loss per decade where no origin could be scored: larger than typical of published tables
ORIGIN_REPLICATES = 40
ENOUGH_ERRORS = 20
CORRECTION = 0.5  # 1 / (errors that go their own way at one origin): many runs lie above one, but err together
NORMAL_MAD = round(1 / float(ndtri(0.75)), 4)  # median absolute deviation to standard deviation
LEAST_NOISE, LEAST_DRIFT = 1e-4, 1e-3  # in ln loss, and per decade: no table is free of either


def student(level: float, freedom: float) -> float:
    """Half width, in standard deviations, of the two-sided interval at `level` of Student's t."""
    return float(stdtrit(freedom, (1 + level) / 2))


STUDENT = {level: round(student(level, 4), 2) for level in LEVELS}
"""Quantiles of |t| at 4 degrees of freedom, to two digits: as intervals registered so far were made with."""


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
        far = self.drift * distance_from(runs, points.c)
        sources = (self.noise, committee.sampling_spread(points), committee.form_spread(points), far)
        return np.sqrt(sum(np.square(source) for source in sources))


@dataclass(frozen=True)
class _Trial:
    """One origin forecast by a committee that was chosen on the other origins."""

    origin: BacktestOrigin
    committee: Committee
    errors: FloatArray  # signed, of ln L (m,)


def calibrate(runs: RunTable, committee: Committee, backtest: Backtest, seed: int) -> IntervalCalibration:
    """Estimate noise and drift, then the multipliers from the backtest's errors."""
    seeds = seed_noise(runs)
    noise = max(_residual_noise(runs, committee), seeds or 0.0, LEAST_NOISE)
    trials = _trials(backtest, seed)
    if not trials:
        return IntervalCalibration(noise, seeds, NO_BACKTEST_DRIFT, STUDENT, 0)
    drift = max(LEAST_DRIFT, float(np.median([_drift(trial) for trial in trials])))
    plain = IntervalCalibration(noise, seeds, drift, STUDENT, len(trials))
    ratios = [
        np.abs(trial.errors) / plain.scale(trial.committee, trial.origin.below, trial.origin.scored.points)
        for trial in trials
    ]
    return replace(plain, multipliers=conformal_multipliers(ratios))


def _drift(trial: _Trial) -> float:
    """Error per decade beyond the origin, in ln loss."""
    return float(np.abs(trial.errors).mean() / trial.origin.distance.mean())


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


def conformal_multipliers(ratios: Sequence[FloatArray]) -> dict[float, float]:
    """Stretch of the scale at each level, from |error| / scale at each origin; every origin counts alike.

    The quantile is taken at level · (1 + 1/(2·origins)): split conformal prediction's correction for few errors, an
    origin counting as two of them. Few origins do not show the far tail either, so the widest interval is at least as
    far from the one below it as in Student's t with 4 degrees of freedom; and fewer than ENOUGH_ERRORS are no reason
    for intervals below Student's.
    """
    pooled = np.concatenate(ratios)
    weights = np.concatenate([np.full(len(ratio), 1 / (len(ratio) * len(ratios))) for ratio in ratios])
    order = np.argsort(pooled, kind="stable")
    reached = np.cumsum(weights[order])
    wanted = np.minimum(1.0, np.array(LEVELS) * (1 + CORRECTION / len(ratios)))
    found = pooled[order][np.minimum(np.searchsorted(reached, wanted - 1e-9), len(pooled) - 1)]
    least = [STUDENT[level] if len(pooled) < ENOUGH_ERRORS else 0.0 for level in LEVELS]
    half, most, nearly_all = np.maximum(found, least).tolist()
    tail = most * STUDENT[LEVELS[2]] / STUDENT[LEVELS[1]]
    return dict(zip(LEVELS, (half, most, max(nearly_all, tail)), strict=True))


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
