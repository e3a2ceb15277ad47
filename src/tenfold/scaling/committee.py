"""The laws that forecast together, and how far they and the bootstrap disagree.

Several candidates usually backtest alike, and which of them comes first is partly luck. The forecast is the median of
those close to the best, which errs less than the best alone; their spread is the uncertainty of form.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tenfold.scaling.backtest import Candidate, Score
from tenfold.scaling.table import FloatArray, Points, RunTable

CLOSE = 1.5  # times the best backtest error, up to which a candidate has a say
CENTRAL = (15.87, 84.13)  # percentiles one standard deviation either side of a normal's middle


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
    ranking: Sequence[Score],
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
