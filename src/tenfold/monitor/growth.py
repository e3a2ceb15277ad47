"""Whether a system becomes more reliable: numbers only.

Crow–AMSAA, as in MIL-HDBK-189C section 6: failures are a Poisson process whose expected number by operating time t is
λ·t^β. β < 1 means that the time between failures grows. Everything here is for data that end at a time, not at a
failure. Times are operating hours from 0 to `total`, or any other one unit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

FloatArray = npt.NDArray[np.float64]
LEVEL = 0.90
"""Of every interval."""
SIMULATED = 20_000
SEED = 189
"""Of the simulations, so that the same failures give the same figures."""
FEWEST = 3
"""Failures from which on a trend is fitted."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it; an end may be 0 or infinite."""

    value: float
    low: float
    high: float


def mean_time_between(failures: int, total: float, level: float = LEVEL) -> Estimate:
    """Mean time between failures at a steady rate, with the exact interval (chi-squared, IEC 60605-4).

    Without a failure the value and the upper end are infinite and the lower end is one-sided. Raises ValueError when
    there is no operating time.
    """
    if total <= 0 or failures < 0:
        raise ValueError(f"{failures} failures in {total:g}: the time must be above 0")
    miss = (1 - level) / (2 if failures else 1)
    low = 2 * total / float(stats.chi2.ppf(1 - miss, 2 * failures + 2))
    if not failures:
        return Estimate(math.inf, low, math.inf)
    return Estimate(total / failures, low, 2 * total / float(stats.chi2.ppf(miss, 2 * failures)))


@dataclass(frozen=True)
class Growth:
    """Crow–AMSAA fitted to the failures of a time-truncated test."""

    failures: int
    total: float
    beta: Estimate
    """Maximum likelihood, and the exact interval."""
    beta_unbiased: float
    """(n − 1)/n of it."""
    scale: float
    """λ of the maximum-likelihood fit."""
    current: Estimate
    """Mean time between failures at the end, and its exact interval (Crow 1977)."""
    trend_p: float
    """Of a steady rate, two-sided: 2n/β̂ is then chi-squared with 2n degrees (MIL-HDBK-189C 5.2.4)."""
    fit_p: float
    """Of the Cramér–von Mises test: small where failures do not follow a power of time."""

    @property
    def trend(self) -> str:
        """`improves` or `worsens` where the interval of β says so, else `steady`."""
        return "improves" if self.beta.high < 1 else "worsens" if self.beta.low > 1 else "steady"


def crow_amsaa(times: Sequence[float], total: float, level: float = LEVEL) -> Growth:
    """Fit to failures at these operating times, all within 0 to `total`. Raises ValueError where that is not so.

    A failure at 0 counts as at a billionth of `total`, since a power of time has no logarithm there.
    """
    found = np.sort(np.asarray(times, dtype=np.float64))
    if len(found) < FEWEST or total <= 0 or found[0] < 0 or found[-1] > total:
        raise ValueError(f"{len(found)} failures within {total:g}: at least {FEWEST} are needed, all from 0 to the end")
    logs = -np.log(np.maximum(found / total, 1e-9))
    count, spread = len(found), max(float(logs.sum()), 1e-12)
    beta = count / spread
    low, high = stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], 2 * count) / (2 * count)
    below = float(stats.chi2.cdf(2 * spread, 2 * count))
    return Growth(
        count,
        total,
        Estimate(beta, beta * float(low), beta * float(high)),
        beta * (count - 1) / count,
        count / total**beta,
        _current(count, spread, total, level),
        2 * min(below, 1 - below),
        _fit_p(logs, count),
    )


def _current(count: int, spread: float, total: float, level: float) -> Estimate:
    """MTBF at the end: given Σ ln(T/tᵢ) = s, P(N = n) ∝ (φs)ⁿ/(n!(n−1)!) with φ = T/MTBF alone (Crow 1977)."""
    miss = (1 - level) / 2
    high = _solved(lambda z: 1 - _count_cdf(count - 1, z) - miss, count)  # smallest φ: longest MTBF
    low = _solved(lambda z: _count_cdf(count, z) - miss, count)
    return Estimate(total * spread / count**2, total * spread / low, total * spread / high)


def _count_cdf(count: int, z: float) -> float:
    """P(N ≤ count) for the law ∝ zⁿ/(n!(n−1)!), n ≥ 1; its sum is √z·I₁(2√z)."""
    root = math.sqrt(z)
    n = np.arange(1, count + 1)
    terms = n * math.log(z) - special.gammaln(n + 1) - special.gammaln(n)
    return float(np.exp(terms - 2 * root).sum() / (root * special.ive(1, 2 * root)))


def _solved(error: Callable[[float], float], count: int) -> float:
    """Root by z, which lies around n²."""
    return float(optimize.brentq(error, 1e-9, 16.0 * (count + 8) ** 2, xtol=1e-12, rtol=1e-12))


def _fit_p(logs: FloatArray, count: int) -> float:
    """Of the Cramér–von Mises statistic with the unbiased β. Under the model its law is free of β: simulated."""
    random = np.random.default_rng(SEED)
    simulated = _cramer_von_mises(np.sort(random.exponential(size=(SIMULATED, count)), axis=1)[:, ::-1])
    observed = float(_cramer_von_mises(np.sort(logs)[None, ::-1])[0])
    return float((1 + np.count_nonzero(simulated >= observed)) / (1 + SIMULATED))


def _cramer_von_mises(logs: FloatArray) -> FloatArray:
    """C² of each row of ln(T/tᵢ), (R, n), longest first (MIL-HDBK-189C 6.2.6)."""
    count = logs.shape[1]
    unbiased = (count - 1) / np.maximum(logs.sum(axis=1, keepdims=True), 1e-12)
    expected = (2 * np.arange(1, count + 1) - 1) / (2 * count)
    return np.asarray(1 / (12 * count) + ((np.exp(-unbiased * logs) - expected) ** 2).sum(axis=1))


def time_until(growth: Growth, goal: float, level: float = LEVEL) -> Estimate:
    """Operating time, counted from 0, at which the mean time between failures reaches `goal` if growth goes on.

    The interval is a parametric bootstrap; infinite where it does not grow. Raises ValueError for a goal of 0 or less.
    """
    if goal <= 0:
        raise ValueError(f"a mean time between failures of {goal:g}: must be above 0")
    random = np.random.default_rng(SEED)
    counts = np.maximum(random.poisson(growth.failures, SIMULATED), 2)
    spreads = random.gamma(counts, 1 / growth.beta.value)
    drawn = _reached(counts / spreads, growth.total * spreads / counts**2, growth.total, goal)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    value = _reached(np.array([growth.beta.value]), np.array([growth.current.value]), growth.total, goal)[0]
    return Estimate(float(value), float(low), float(high))


def _reached(beta: FloatArray, current: FloatArray, total: float, goal: float) -> FloatArray:
    """t with current·(t/total)^(1−β) = goal; 0 where it was so all along, infinite where it never will be."""
    power = 1 - beta
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        reached = total * (goal / current) ** (1 / power)
    return np.where(power > 1e-9, reached, np.where(current >= goal, 0.0, np.inf))


@dataclass(frozen=True)
class Against:
    """Failures beside those that a plan expected."""

    failures: int
    expected: float
    ratio: Estimate
    """Observed rate over the planned one."""
    p: float
    """Of the planned rate, exact and two-sided (twice the smaller tail of the Poisson law)."""


def against_plan(failures: int, total: float, planned_rate: float, level: float = LEVEL) -> Against:
    """Compare with a planned rate, per unit of `total`. Raises ValueError when rate or time is not above 0."""
    if planned_rate <= 0:
        raise ValueError(f"a planned rate of {planned_rate:g}: must be above 0")
    between, expected = mean_time_between(failures, total, level), planned_rate * total
    upper = float(stats.poisson.sf(failures - 1, expected))
    lower = float(stats.poisson.cdf(failures, expected))
    ratio = Estimate(failures / expected, 1 / (between.high * planned_rate), 1 / (between.low * planned_rate))
    return Against(failures, expected, ratio, min(1.0, 2 * min(upper, lower)))


@dataclass(frozen=True)
class Lemon:
    """Failures of one learner or host, and whether they are more than its share of time explains."""

    name: str
    failures: int
    total: float
    p: float
    """Exact, one-sided: that many or more of all failures would fall on it, were all rates equal (binomial)."""
    adjusted_p: float
    """Holm's, over all that are compared."""

    def is_lemon(self, level: float = 0.05) -> bool:
        """Whether its rate is beyond the others'."""
        return self.adjusted_p < level


def lemons(failures: Mapping[str, int], totals: Mapping[str, float]) -> list[Lemon]:
    """Each that was at work, the worst first. One without operating time is left out: it has no rate."""
    names = [name for name, total in totals.items() if total > 0]
    every, time = sum(failures.get(name, 0) for name in names), math.fsum(totals[name] for name in names)
    if not names:
        return []
    ps = [float(stats.binom.sf(failures.get(name, 0) - 1, every, totals[name] / time)) for name in names]
    order = sorted(range(len(names)), key=lambda place: ps[place])
    adjusted, highest = {}, 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, ps[place] * (len(names) - rank)))
        adjusted[place] = highest
    return [Lemon(names[i], failures.get(names[i], 0), totals[names[i]], ps[i], adjusted[i]) for i in order]
