"""Which law forecasts these runs best: fit below a compute, predict above it, from several origins.

A candidate is a law on a view of the runs. In-sample fit is never looked at: the five-parameter surface always fits
best and often forecasts worst. Small runs and runs far off the frontier often follow another law than the target will
(warm-up that takes most of the run, models that see too few tokens), so a view keeps the runs near the top and near the
frontier, and the backtest decides which view forecasts best. Tables that no law can be identified from are refused with
the reason.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tenfold.core import InputError
from tenfold.scaling.laws import LAWS
from tenfold.scaling.table import LN10, BoolArray, FloatArray, RunTable
from tenfold.scaling.terms import Law

ENVELOPE_SLACK = 0.05  # runs with up to 5% more compute still count as "as much compute"
HORIZONS = (0.3, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # decades below the largest compute at which an origin cuts
REACH = 3.0  # decades above its origin that a forecast is scored on
SCORED_EXCESS = 0.2  # ln loss above the frontier beyond which a run is no target anybody would choose
USUAL_WEIGHT = 4.0  # origins that a candidate's usual error in other tables counts as
NEAR_ENOUGH = 0.003  # error of ln loss below which differences are luck
UNTESTED = 0.02  # error of ln loss expected of a candidate where nothing could be backtested
ROUNDS = 20
MIN_ORIGINS, LAST_RUNS = 2, 4  # a table too short for decades is cut before its last few runs instead
MIN_RUNS = 5
MIN_SPAN = 1.5  # largest over smallest C


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
        """Name the runs that are kept, for people."""
        parts = [f"in the top {self.decades:g} decades of compute"] if math.isfinite(self.decades) else []
        parts += [f"within {self.excess:.0%} of the loss frontier"] if math.isfinite(self.excess) else []
        return "runs " + " and ".join(parts) if parts else "all runs"


VIEW_HANDICAPS = {
    View(math.inf, math.inf): 0.04,
    View(math.inf, 0.1): -0.08,
    View(math.inf, 0.05): -0.08,
    View(2.0, math.inf): 0.09,
    View(2.0, 0.1): -0.02,
    View(2.0, 0.05): -0.05,
    View(1.0, math.inf): 0.1,
    View(1.0, 0.1): 0.01,
    View(1.0, 0.05): 0.0,
}
"""ln of the usual error on a view over that on the others, as a law's handicap."""
VIEWS = tuple(VIEW_HANDICAPS)


def excess_over_frontier(runs: RunTable) -> FloatArray:
    """ln loss of each run above the lowest reached with as much compute or less, shape (n,). Runs are in order of C."""
    c = runs.points.c
    lowest = np.minimum.accumulate(runs.log_loss)
    reach = np.searchsorted(c, c + ENVELOPE_SLACK, side="right") - 1
    excess: FloatArray = runs.log_loss - lowest[reach]
    return excess


@dataclass(frozen=True)
class Candidate:
    """A law on a view of the runs."""

    law: Law
    view: View

    def describe(self) -> str:
        """Name law and view, for people."""
        return f"{self.law.name} on {self.view.describe()}"

    @property
    def handicap(self) -> float:
        """ln of its usual error over that of the others, in other tables."""
        return self.law.handicap + VIEW_HANDICAPS.get(self.view, 0.0)


@dataclass(frozen=True)
class BacktestOrigin:
    """One cut: the runs below it, and those above it that a forecast is scored on."""

    below: RunTable
    scored: RunTable

    @property
    def distance(self) -> FloatArray:
        """Decades of compute from the largest run below to each scored run, shape (m,)."""
        return distance_from(self.below, self.scored.points.c)


@dataclass(frozen=True)
class CandidateScore:
    """Error of ln loss expected of a candidate's forecasts, and at how many origins it could be scored."""

    candidate: Candidate
    error: float
    origins: int


@dataclass(frozen=True)
class Backtest:
    """Origins, and each candidate's coefficients and signed errors of ln loss at every origin it could be fitted at."""

    origins: tuple[BacktestOrigin, ...]
    coefficients: Mapping[tuple[Candidate, int], FloatArray]
    errors: Mapping[tuple[Candidate, int], FloatArray]
    handicaps: Mapping[Candidate, float] = field(default_factory=dict)
    """Handicaps in place of the candidates' own, for measuring what these are worth."""

    def ranking(self, candidates: Iterable[Candidate], without: int | None = None) -> list[CandidateScore]:
        """Candidates by the error expected of them, best first, judged on all origins but `without`.

        ln error is taken as a candidate's own part plus the origin's: a candidate that could not be fitted at the hard
        origins is not the better for it, nor struck for the lack of them. The own part is drawn to its handicap, all
        the more the fewer origins it was scored at.
        """
        listed = list(candidates)
        used = [index for index in range(len(self.origins)) if index != without]
        if not used:
            scores = [CandidateScore(each, UNTESTED * math.exp(self._handicap(each)), 0) for each in listed]
            return sorted(scores, key=lambda score: score.error)
        errors = np.array([[self._log_error(each, index) for index in used] for each in listed])
        weights = np.array([float(self.origins[index].distance.mean()) for index in used])
        weights /= weights.mean()
        own, hard, scored = _own_errors(errors, weights)
        handicaps = np.array([self._handicap(each) for each in listed])
        drawn = (own * scored + USUAL_WEIGHT * handicaps) / (scored + USUAL_WEIGHT)
        counts = np.isfinite(errors).sum(axis=1)
        scores = [
            CandidateScore(each, math.exp(hard + part), int(count))
            for each, part, count in zip(listed, drawn, counts, strict=True)
        ]
        return sorted(scores, key=lambda score: score.error)

    def _handicap(self, candidate: Candidate) -> float:
        return self.handicaps.get(candidate, candidate.handicap)

    def _log_error(self, candidate: Candidate, index: int) -> float:
        """ln of the mean absolute error at an origin; not a number where the candidate could not be fitted."""
        errors = self.errors.get((candidate, index))
        return math.nan if errors is None else math.log(float(np.abs(errors).mean()) + NEAR_ENOUGH)


def _own_errors(errors: FloatArray, weights: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Split ln errors (K, origins) into parts of candidates and of origins, NaN where not scored.

    Returns each candidate's part (K,), the origins' mean, and the weight of the origins each was scored at (K,).
    """
    there = np.isfinite(errors)
    known, weighted = np.where(there, errors, 0.0), there * weights
    scored = weighted.sum(axis=1)
    by_origin, own = np.zeros(len(weights)), np.zeros(len(errors))
    for _ in range(ROUNDS):
        by_origin = np.array([_median((known[:, i] - own)[there[:, i]]) for i in range(len(weights))])
        own = ((known - by_origin) * weighted).sum(axis=1) / np.maximum(scored, 1e-9)
    return own, float(np.average(by_origin, weights=weights)), scored


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def distance_from(runs: RunTable, c: FloatArray) -> FloatArray:
    """Decades of compute beyond the largest run; 0 within the runs. `c` is ln C (m,)."""
    beyond: FloatArray = np.maximum(0.0, (c - runs.points.c.max()) / LN10)
    return beyond


def run_backtest(runs: RunTable, laws: Sequence[Law] = LAWS) -> Backtest:
    """Fit every candidate below every origin and score it above."""
    origins = _origins(runs, laws)
    coefficients: dict[tuple[Candidate, int], FloatArray] = {}
    errors: dict[tuple[Candidate, int], FloatArray] = {}
    for index, origin in enumerate(origins):
        for candidate, found in fit_candidates(origin.below, laws).items():
            coefficients[candidate, index] = found
            errors[candidate, index] = candidate.law.log_loss(found, origin.scored.points)[0] - origin.scored.log_loss
    return Backtest(origins, coefficients, errors)


def fit_candidates(runs: RunTable, laws: Sequence[Law] = LAWS) -> dict[Candidate, FloatArray]:
    """Coefficients (1, p) of every law on every view of the runs that identifies it. Equal views share one fit."""
    weights = np.stack([view.weights(runs) for view in VIEWS])
    distinct, which = np.unique(weights, axis=0, return_inverse=True)
    found: dict[Candidate, FloatArray] = {}
    for law in laws:
        fits = _fit_rows(law, runs, distinct)
        rows = zip(VIEWS, which.tolist(), strict=True)
        found |= {Candidate(law, view): fits[row] for view, row in rows if row in fits}
    return found


def _fit_rows(law: Law, runs: RunTable, weights: FloatArray) -> dict[int, FloatArray]:
    """Coefficients (1, p) for each row of weights (R, n) under which the law can be identified."""
    possible = [row for row, kept in enumerate(weights) if law.obstacle(runs.take(kept > 0)) is None]
    if not possible:
        return {}
    fits = law.fit(runs, weights[possible])
    return {row: fits[[i]] for i, row in enumerate(possible) if np.isfinite(fits[i]).all()}


def obstacles(runs: RunTable, laws: Sequence[Law] = LAWS) -> dict[str, str]:
    """Laws these runs cannot identify, and why."""
    reasons = {law.name: law.obstacle(runs) for law in laws}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _origins(runs: RunTable, laws: Sequence[Law]) -> tuple[BacktestOrigin, ...]:
    """Cuts by decades of compute; before the last few runs if there are too few such cuts."""
    c = runs.points.c
    near = excess_over_frontier(runs) <= SCORED_EXCESS
    cuts = [c.max() - horizon * LN10 for horizon in HORIZONS]
    origins = _cut(runs, cuts, near, laws)
    if len(origins) < MIN_ORIGINS:
        origins = _cut(runs, [c[-last] for last in range(1, min(LAST_RUNS, len(runs) - 1) + 1)], near, laws)
    return tuple(origins)


def _cut(runs: RunTable, cuts: Sequence[float], near: BoolArray, laws: Sequence[Law]) -> list[BacktestOrigin]:
    """The cuts that leave some law enough runs below and something to score above."""
    origins = []
    c = runs.points.c
    for cut in dict.fromkeys(cuts):
        below = runs.take(c < cut - 1e-9)
        scored = runs.take((c >= cut - 1e-9) & (c <= cut + REACH * LN10 + 1e-9) & near)
        if len(scored) and len(below) and any(law.obstacle(below) is None for law in laws):
            origins.append(BacktestOrigin(below, scored))
    return origins


def check_identifiable(runs: RunTable) -> None:
    """Raise InputError, with the reason and what to add, where a fit would say nothing about larger runs."""
    reason = _reason(runs)
    if reason is not None:
        raise InputError(f"{runs.source}: {reason}")


def check_finite(runs: RunTable) -> None:
    """Raise InputError for numbers that have no logarithm."""
    points = runs.points
    for name, values in (("N", points.n), ("D", points.d), ("C", points.c), ("loss", runs.log_loss)):
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise InputError(f"{runs.source}: {bad} runs whose {name} is not a finite number above 0; leave them out")


def _reason(runs: RunTable) -> str | None:
    points = runs.points
    if len(runs) < MIN_RUNS:
        return f"{len(runs)} runs are too few for a law; give {MIN_RUNS} or more, at four amounts of compute"
    span = float(np.ptp(points.c))
    if span < math.log(MIN_SPAN):
        return f"no spread in C: its largest is {math.exp(span):.2f}x its smallest, {MIN_SPAN}x needed"
    if not _falls(runs):
        return "the loss does not fall as compute grows, so no law of diminishing loss can be fitted; check the runs"
    obstacles = {law.name: law.obstacle(runs) for law in LAWS}
    if None not in obstacles.values():
        listed = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items())
        return f"too few rungs to identify any law ({listed})"
    return None


def _falls(runs: RunTable) -> bool:
    """The lowest loss among the half with more compute is below that of the other half. Runs are in order of C."""
    half = len(runs) // 2
    return float(np.min(runs.log_loss[half:])) < float(np.min(runs.log_loss[:half]))
