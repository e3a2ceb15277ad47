"""What published tables say about forecasts in general: which candidates usually err less, how far intervals stretch.

The package holds these numbers as constants (handicaps in scaling/laws.py and scaling/backtest.py, multipliers in
scaling/committee.py). benchmarks/backtest.py measures them without the table that is forecast.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tenfold.scaling.backtest import NEAR_ENOUGH, Backtest, Candidate
from tenfold.scaling.committee import LEVELS, Committee, IntervalCalibration, calibrate, form_committee
from tenfold.scaling.table import FloatArray, RunTable

REPLICATES = 60
RIDGE = 0.3  # tables: pull of a handicap to 0
UNSTRETCHED = dict.fromkeys(LEVELS, 1.0)


@dataclass(frozen=True)
class Fitted:
    """A series cut at a compute: candidates fitted below, with their backtests there, and the runs to forecast."""

    key: tuple[str, str]
    decades: int
    below: RunTable
    above: RunTable
    backtest: Backtest
    fits: Mapping[Candidate, FloatArray]


@dataclass(frozen=True)
class Scored:
    """Signed errors of ln loss (m,) of the committee, and the calibration of its intervals but for the stretch."""

    fitted: Fitted
    committee: Committee
    calibration: IntervalCalibration
    errors: FloatArray

    def scale(self, multipliers: Mapping[float, float]) -> FloatArray:
        """One unit of uncertainty of each forecast, shape (m,)."""
        calibration = replace(self.calibration, multipliers=multipliers)
        return calibration.scale(self.committee, self.fitted.below, self.fitted.above.points)


def score(fitted: Fitted, handicaps: Mapping[Candidate, float]) -> Scored:
    """Choose and forecast with these handicaps."""
    backtest = replace(fitted.backtest, handicaps=handicaps)
    committee = form_committee(fitted.below, backtest.ranking(fitted.fits), fitted.fits, REPLICATES, 0)
    calibration = calibrate(fitted.below, committee, backtest, 0, UNSTRETCHED)
    return Scored(fitted, committee, calibration, committee.log_loss(fitted.above.points) - fitted.above.log_loss)


def handicaps_of(cases: Sequence[Fitted]) -> dict[Candidate, float]:
    """ln error over the median candidate's, as a part of the law and one of the view; every table counts alike."""
    tables = Counter(case.key[0] for case in cases)
    candidates = list(dict.fromkeys(candidate for case in cases for candidate in case.fits))
    laws = list(dict.fromkeys(candidate.law.name for candidate in candidates))
    views = list(dict.fromkeys(candidate.view for candidate in candidates))
    rows, values, weights = [], [], []
    for case in cases:
        errors = {each: _log_error(each, found, case.above) for each, found in case.fits.items()}
        middle = float(np.median(list(errors.values())))
        for candidate, error in errors.items():
            rows.append((laws.index(candidate.law.name), len(laws) + views.index(candidate.view)))
            values.append(error - middle)
            weights.append(1 / tables[case.key[0]])
    design = np.zeros((len(rows), len(laws) + len(views)))
    design[np.arange(len(rows))[:, None], np.array(rows)] = 1
    weighted = design * np.array(weights)[:, None]
    parts = np.linalg.solve(weighted.T @ design + RIDGE * np.eye(design.shape[1]), weighted.T @ np.array(values))
    return {
        each: float(parts[laws.index(each.law.name)] + parts[len(laws) + views.index(each.view)]) for each in candidates
    }


def _log_error(candidate: Candidate, found: FloatArray, above: RunTable) -> float:
    errors = candidate.law.log_loss(found, above.points)[0] - above.log_loss
    return float(np.log(np.abs(errors).mean() + NEAR_ENOUGH))


def multipliers_of(scored: Sequence[Scored]) -> dict[float, float]:
    """Stretch at each level: quantile of |error| / scale, a series counting as one over the root of its table's."""
    tables = Counter(one.fitted.key[0] for one in scored)
    ratios = [np.abs(one.errors) / one.scale(UNSTRETCHED) for one in scored]
    weights = [np.full(len(r), tables[o.fitted.key[0]] ** -0.5 / len(r)) for o, r in zip(scored, ratios, strict=True)]
    pooled, weight = np.concatenate(ratios), np.concatenate(weights)
    order = np.argsort(pooled, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    found = pooled[order][np.searchsorted(reached, np.array(LEVELS))]
    return dict(zip(LEVELS, found.round(2).tolist(), strict=True))
