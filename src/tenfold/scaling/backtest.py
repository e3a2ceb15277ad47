"""Which law forecasts these runs best: fit below a compute, predict above it, from several origins.

A candidate is a law on a view of the runs. In-sample fit is never looked at: the five-parameter surface always fits
best and often forecasts worst. Small runs and runs far off the frontier often follow another law than the target will
(warm-up that takes most of the run, models that see too few tokens), so a view keeps the runs near the top and near the
frontier, and the backtest decides which view forecasts best. Tables that no law can be identified from are refused with
the reason.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.core import InputError
from tenfold.scaling.laws import LAWS
from tenfold.scaling.table import LN10, BoolArray, FloatArray, RunTable
from tenfold.scaling.terms import Law

ENVELOPE_SLACK = 0.05  # runs with up to 5% more compute still count as "as much compute"
HORIZONS = (0.3, 0.5, 0.75, 1.0, 1.25, 1.5)  # decades below the largest compute at which an origin cuts
REACH = 1.0  # decades above its origin that a forecast is scored on
SCORED_EXCESS = 0.2  # ln loss above the frontier beyond which a run is no target anybody would choose
ORIGINS_NEEDED = 0.6  # share of the origins a candidate must have been scored at
MIN_ORIGINS, LAST_RUNS = 2, 4  # a table too short for decades is cut before its last few runs instead
MIN_RUNS = 5
MIN_SPAN = 1.5  # largest over smallest C, N and D


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


VIEWS = tuple(View(decades, excess) for decades in (math.inf, 2.0, 1.0) for excess in (math.inf, 0.1, 0.05))


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
    """Quality of a candidate's forecasts: mean absolute error of ln loss over the origins, weighted by distance."""

    candidate: Candidate
    error: float
    origins: int


@dataclass(frozen=True)
class Backtest:
    """Origins, and each candidate's coefficients and signed errors of ln loss at every origin it could be fitted at."""

    origins: tuple[BacktestOrigin, ...]
    coefficients: Mapping[tuple[Candidate, int], FloatArray]
    errors: Mapping[tuple[Candidate, int], FloatArray]

    def ranking(self, without: int | None = None) -> list[CandidateScore]:
        """Candidates, best first, judged on all origins (but `without`) they could be fitted at."""
        used = [index for index in range(len(self.origins)) if index != without]
        scores = [self._score(candidate, used) for candidate in dict.fromkeys(c for c, _ in self.errors)]
        most = max((score.origins for score in scores), default=0)
        enough = [score for score in scores if score.origins and score.origins >= ORIGINS_NEEDED * most]
        return sorted(enough, key=lambda score: score.error)

    def _score(self, candidate: Candidate, used: Sequence[int]) -> CandidateScore:
        there = [index for index in used if (candidate, index) in self.errors]
        if not there:
            return CandidateScore(candidate, np.inf, 0)
        errors = [float(np.abs(self.errors[candidate, index]).mean()) for index in there]
        weights = [float(self.origins[index].distance.mean()) for index in there]
        return CandidateScore(candidate, float(np.average(errors, weights=weights)), len(there))


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


def _reason(runs: RunTable) -> str | None:
    points = runs.points
    for name, values in (("N", points.n), ("D", points.d), ("C", points.c), ("loss", runs.log_loss)):
        if not np.isfinite(values).all():
            return (
                f"{int((~np.isfinite(values)).sum())} runs whose {name} is not a finite number above 0; leave them out"
            )
    if len(runs) < MIN_RUNS:
        return f"{len(runs)} runs are too few for a law; give {MIN_RUNS} or more, at four amounts of compute"
    for name, values in (("C", points.c), ("N", points.n), ("D", points.d)):
        if _span(values) < MIN_SPAN:
            return f"no spread in {name}: its largest is {_span(values):.2f}x its smallest, {MIN_SPAN}x needed"
    if not _falls(runs):
        return "the loss does not fall as compute grows, so no law of diminishing loss can be fitted; check the runs"
    obstacles = {law.name: law.obstacle(runs) for law in LAWS}
    if None not in obstacles.values():
        listed = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items())
        return f"too few rungs to identify any law ({listed})"
    return None


def _span(values: FloatArray) -> float:
    return math.exp(float(values.max() - values.min()))


def _falls(runs: RunTable) -> bool:
    """The lowest loss among the half with more compute is below that of the other half. Runs are in order of C."""
    half = len(runs) // 2
    return float(np.min(runs.log_loss[half:])) < float(np.min(runs.log_loss[:half]))
