"""Loss when tokens are seen more than once (Muennighoff et al., arXiv 2305.16264, section 3 and appendix A).

L = E + A / N'^alpha + B / D'^alpha. A repeated token is worth less than a new one: with U distinct tokens seen
R + 1 = D/U times, D' = U (1 + r_D (1 - e^(-R / r_D))). Likewise parameters beyond the U_N that U tokens can feed:
N' = U_N (1 + r_N (1 - e^(-R_N / r_N))), R_N = N / U_N - 1, with U_N = min(N, best N for U tokens).
"""

import numpy as np

from tenfold.scaling.laws.needs import needs_repeats
from tenfold.scaling.laws.terms import COEFFICIENT_RANGE, EXPONENT_RANGE, TermLaw, columns, log_sum
from tenfold.scaling.laws.tied import tied_starts
from tenfold.scaling.table import FloatArray, Points, RunTable

WORTH_STARTS = ((15.0, 5.0), (5.0, 15.0))  # r_D and r_N; the paper finds 15.4 and 5.3
WORTH_RANGE = (0.0, 7.0)  # of ln r


def _effective(base: FloatArray, seen: FloatArray, worth: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """ln of the effective amount, and its derivatives by `base` = ln U and by ln r; `seen` = ln D or ln N."""
    repeats = np.expm1(np.maximum(seen - base, 0.0))
    left = np.exp(-repeats / worth)
    factor = 1 + worth * (1 - left)
    return base + np.log(factor), 1 - left * (repeats + 1) / factor, (worth * (1 - left) - repeats * left) / factor


def _evaluate(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha, log_data_worth, log_model_worth = columns(coefficients)
    tokens, _, by_data_worth = _effective(points.u, points.d, np.exp(log_data_worth))
    fed = (a - b) / alpha + points.u  # best N for U tokens: (A/B)^(1/alpha) U
    parameters, by_fed, by_model_worth = _effective(np.minimum(fed, points.n), points.n, np.exp(log_model_worth))
    total, (floor, model, data) = log_sum([e + 0 * points.n, a - alpha * parameters, b - alpha * tokens])
    through_fed = np.where(fed < points.n, -model * by_fed, 0.0)  # alpha d(fed) = da - db - (a - b)/alpha d(alpha)
    slopes = (
        floor,
        model + through_fed,
        data - through_fed,
        -model * parameters - data * tokens - through_fed * (a - b) / alpha,
        -data * alpha * by_data_worth,
        -model * alpha * by_model_worth,
    )
    return total, np.stack(slopes, axis=2)


def _starts(runs: RunTable) -> FloatArray:
    plain = tied_starts(runs)
    worths = np.log(np.array(WORTH_STARTS))
    return np.concatenate([np.hstack([plain, np.broadcast_to(worth, (len(plain), 2))]) for worth in worths])


DATA_CONSTRAINED = TermLaw(
    name="data-constrained",
    formula="E + A/N'^alpha + B/D'^alpha, N' and D' discounted for repeats",
    parameters=("ln E", "ln A", "ln B", "alpha", "ln r_D", "ln r_N"),
    evaluate=_evaluate,
    starts=_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, WORTH_RANGE, WORTH_RANGE),
    needs=needs_repeats,
)
