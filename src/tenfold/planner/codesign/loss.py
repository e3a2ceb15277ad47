"""Forecast loss of N parameters trained on D tokens, of which U are distinct, and what large batches cost.

Tokens needed grow by 1 + B / B_critical. McCandlish et al. (arXiv 1812.06162, equation 2.11) derive the form. Its size
is from Zhang et al. (arXiv 2410.21676), who measured which batch needs 20% more tokens for models of 85 M to 1.2 B:
22.91 D^0.47, D in millions of training tokens, in sequences of 512; it hardly depends on the model's size. The batch
that needs twice the tokens is five times as large. Bergsma et al. (arXiv 2505.13738) find nearly the same exponent;
Kaplan et al. (arXiv 2001.08361) tied it to the loss instead.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tenfold.planner.calibration.calibrated import NINETY
from tenfold.planner.cost.layout import Array
from tenfold.scaling import HOFFMANN, Points, ScalingLaw, fit_scaling_law, read_runs

TWENTY_PERCENT = 22.91 * 512
EXPONENT = 0.47
MILLION = 1e6
_ROUNDS = 60


def critical_batch(tokens: float, measured: float | None = None) -> float:
    """Batch, in tokens, at which twice the tokens are needed, for a run of `tokens`; `measured` replaces the law."""
    if measured is not None:
        return measured
    return TWENTY_PERCENT / 0.2 * math.pow(tokens / MILLION, EXPONENT)


def tokens_needed(tokens: float, batch: float, measured: float | None = None) -> float:
    """Tokens that reach with this batch what `tokens` reach with a small one."""
    return tokens * (1 + batch / critical_batch(tokens, measured))


def tokens_worth(trained: float, batch: float, measured: float | None = None) -> float:
    """The inverse of `tokens_needed`: what `trained` tokens are worth, by bisection in logarithms."""
    low, high = math.log(trained) - _ROUNDS, math.log(trained)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        if tokens_needed(math.exp(middle), batch, measured) > trained:
            high = middle
        else:
            low = middle
    return math.exp((low + high) / 2)


class LossLaw(Protocol):
    """A law of loss as the search asks it. Arrays broadcast; `unique` is infinite without a limit."""

    @property
    def source(self) -> str:
        """Where it is from, in one line."""

    @property
    def level(self) -> float:
        """Coverage of `half_width`."""

    def log_loss(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Expected ln L, for arrays that broadcast."""

    def half_width(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Half-width of the interval of ln L."""

    def notes(self, parameters: float, tokens: float) -> list[str]:
        """Doubts about this point that the interval does not hold."""


LEAST_PARAMETERS, MOST_PARAMETERS = 70e6, 16e9
LEAST_TOKENS, MOST_TOKENS = 5e9, 500e9
"""Of the runs that the published law was fitted to."""


@dataclass(frozen=True)
class PublishedLaw:
    """L = E + A / N^alpha + B / D^beta with the coefficients of Besiroglu et al. (arXiv 2404.10102, table 1).

    Where distinct tokens are limited, repeated ones and parameters beyond what the distinct ones feed are discounted as
    in Muennighoff et al. (arXiv 2305.16264, section 3), with their half-lives, on these coefficients; the best N for U
    tokens follows from equal slopes.
    Standard errors are published without their correlations and taken as independent, which makes the interval wide.
    """

    a: float = 482.01
    b: float = 2085.43
    e: float = 1.8172
    alpha: float = 0.3478
    beta: float = 0.3658
    repeat_worth: float = 15.387756
    excess_worth: float = 5.309743
    errors: tuple[float, ...] = (124.58, 1293.23, 0.026, 0.015, 0.021)
    """Standard errors of a, b, e, alpha and beta."""

    @property
    def source(self) -> str:
        """Origin of the law, in one line."""
        return "Chinchilla's law as fitted by Besiroglu et al. (arXiv 2404.10102), nats a token of its tokenizer"

    @property
    def level(self) -> float:
        """Coverage of the interval."""
        return 0.9

    def log_loss(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Expected ln L, for arrays that broadcast."""
        model, data = self._effective(parameters, tokens, unique)
        shape = np.broadcast_shapes(np.shape(model), np.shape(data))
        points = Points.of(np.broadcast_to(model, shape).ravel(), np.broadcast_to(data, shape).ravel())
        found: Array = HOFFMANN.log_loss(self._coefficients(), points)[0].reshape(shape)
        return found

    def half_width(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Half-width of the 90% interval of ln L, by the delta method."""
        model, data = self._effective(parameters, tokens, unique)
        n_term, d_term = self.a / model**self.alpha, self.b / data**self.beta
        a, b, e, alpha, beta = self.errors
        spread = (
            (n_term * a / self.a) ** 2
            + (d_term * b / self.b) ** 2
            + e**2
            + (n_term * np.log(model) * alpha) ** 2
            + (d_term * np.log(data) * beta) ** 2
        )
        return np.asarray(NINETY * np.sqrt(spread) / (self.e + n_term + d_term))

    def notes(self, parameters: float, tokens: float) -> list[str]:
        """Where the law was not fitted."""
        if LEAST_PARAMETERS <= parameters <= MOST_PARAMETERS and LEAST_TOKENS <= tokens <= MOST_TOKENS:
            return []
        return [
            "loss is extrapolated: Chinchilla's runs have 70 M to 16 B parameters and 5 to 500 B tokens "
            "(arXiv 2203.15556)"
        ]

    def _coefficients(self) -> Array:
        return np.array([[np.log(self.e), np.log(self.a), np.log(self.b), self.alpha, self.beta]])

    def _effective(self, parameters: Array, tokens: Array, unique: Array) -> tuple[Array, Array]:
        """N and D, less what repeating and excess make of them."""
        distinct = np.minimum(unique, tokens)
        data = _discounted(distinct, tokens, self.repeat_worth)
        slopes = self.alpha * self.a / (self.beta * self.b)
        with np.errstate(over="ignore"):
            fed = np.where(np.isfinite(unique), (slopes * distinct**self.beta) ** (1 / self.alpha), np.inf)
        return _discounted(np.minimum(fed, parameters), parameters, self.excess_worth), data


def _discounted(base: Array, seen: Array, worth: float) -> Array:
    """Worth of `seen` when only `base` of it is new."""
    return np.asarray(base * (1 + worth * -np.expm1(-(seen / base - 1) / worth)))


@dataclass(frozen=True)
class LadderLaw:
    """A law fitted to a table of one's own runs. N must be counted as the table counts it."""

    law: ScalingLaw
    table: str

    @property
    def source(self) -> str:
        """Origin of the law, in one line."""
        form = self.law.committee.members[0][0].law.name
        return f"a law ({form} and what forecasts as well) fitted to {len(self.law.runs)} runs of {self.table}"

    @property
    def level(self) -> float:
        """Coverage of the interval."""
        return 0.95

    def log_loss(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Expected ln L, for arrays that broadcast."""
        points, shape = self._points(parameters, tokens, unique)
        return self.law.log_loss(points).reshape(shape)

    def half_width(self, parameters: Array, tokens: Array, unique: Array) -> Array:
        """Half-width of the 95% interval of ln L."""
        points, shape = self._points(parameters, tokens, unique)
        return self.law.half_widths(points, self.level).reshape(shape)

    def notes(self, parameters: float, tokens: float) -> list[str]:
        """Doubts about this point that the interval does not hold."""
        points, _ = self._points(np.array(parameters), np.array(tokens), np.array(np.inf))
        return list(self.law.forecast(points)[0].notes)

    def _points(self, parameters: Array, tokens: Array, unique: Array) -> tuple[Points, tuple[int, ...]]:
        several = np.broadcast_arrays(parameters, tokens, np.minimum(unique, tokens))
        n, d, u = (np.ravel(each) for each in several)
        return Points.of(n, d, self.law.runs.flops_factor * n * d, u), several[0].shape


def law_of(table: str | None) -> LossLaw:
    """The published law, or one fitted to the runs of a table. Raises InputError for a table that cannot be fitted."""
    if table is None:
        return PublishedLaw()
    return LadderLaw(fit_scaling_law(read_runs(Path(table))), table)
