"""The forms of scaling law that are a floor plus power-law terms in N and D, and which forms compete for a table.

Each form is an evaluation with derivatives, a grid of starts and its `TermLaw`. terms.py has what they share and the
law of compute alone, isoflop.py the law that is fitted in steps.
"""

from dataclasses import replace

import numpy as np

from tenfold.scaling.isoflop import ISOFLOP
from tenfold.scaling.table import LN10, FloatArray, Points, RunTable
from tenfold.scaling.terms import (
    COEFFICIENT_RANGE,
    COMPUTE,
    EXPONENT_RANGE,
    HeldNear,
    Law,
    TermLaw,
    columns,
    effective_amount,
    exponent_grid,
    log_sum,
    needs_repeats,
    needs_some_spread,
    needs_spread,
    start_coefficients,
)

TIED_EXPONENTS = (0.08, 0.15, 0.25, 0.35, 0.5, 0.75, 1.1)


def _tied(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, model, data) = log_sum([e + 0 * n, a - alpha * n, b - alpha * d])
    return total, np.stack([floor, model, data, -model * n - data * d], axis=2)


def _tied_decays(coefficients: FloatArray, points: Points) -> tuple[FloatArray, ...]:
    alpha = coefficients[:, [3]]
    return alpha * points.n, alpha * points.d


def tied_starts(runs: RunTable) -> FloatArray:
    """Starts (S, 4) over a grid of exponents and floors."""
    exponents = exponent_grid(TIED_EXPONENTS)
    points = np.stack([runs.points.n, runs.points.d])
    return start_coefficients(-exponents[:, :, None] * points, exponents, runs.log_loss)


TIED = TermLaw(
    name="tied",
    formula="E + A/N^alpha + B/D^alpha",
    parameters=("ln E", "ln A", "ln B", "alpha"),
    evaluate=_tied,
    decays=_tied_decays,
    starts=tied_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE),
    needs=needs_some_spread,
)
"""Hoffmann's law with one exponent: L(N, D) = E + A / N^alpha + B / D^alpha.

One coefficient fewer, which forecasts better from few runs. It says that the best D/N does not change with scale, which
is what most isoFLOP studies find; Gadre et al. (arXiv 2403.08540, section 2) use it for over-trained models.
"""


HOFFMANN_EXPONENTS = (0.12, 0.25, 0.4, 0.6, 0.9)


def _hoffmann(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha, beta = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, model, data) = log_sum([e + 0 * n, a - alpha * n, b - beta * d])
    return total, np.stack([floor, model, data, -model * n, -data * d], axis=2)


def _hoffmann_decays(coefficients: FloatArray, points: Points) -> tuple[FloatArray, ...]:
    _, _, _, alpha, beta = columns(coefficients)
    return alpha * points.n, beta * points.d


def _hoffmann_starts(runs: RunTable) -> FloatArray:
    exponents = exponent_grid(HOFFMANN_EXPONENTS, HOFFMANN_EXPONENTS)
    points = np.stack([runs.points.n, runs.points.d])
    return start_coefficients(-exponents[:, :, None] * points, exponents, runs.log_loss)


HOFFMANN = TermLaw(
    name="hoffmann",
    formula="E + A/N^alpha + B/D^beta",
    parameters=("ln E", "ln A", "ln B", "alpha", "beta"),
    evaluate=_hoffmann,
    decays=_hoffmann_decays,
    starts=_hoffmann_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE),
    needs=needs_spread,
)
"""Loss from N and D: L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al., arXiv 2203.15556, section 3.3)."""


PRODUCT_EXPONENTS = (0.03, 0.08, 0.15, 0.3)


def _product(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, k, alpha, beta = columns(coefficients)
    n, d = points.n, points.d
    total, (floor, term) = log_sum([e + 0 * n, k - alpha * n - beta * d])
    return total, np.stack([floor, term, -term * n, -term * d], axis=2)


def _product_decays(coefficients: FloatArray, points: Points) -> tuple[FloatArray, ...]:
    _, _, alpha, beta = columns(coefficients)
    return (alpha * points.n + beta * points.d,)


def _product_starts(runs: RunTable) -> FloatArray:
    """Starts (S, 4) over a grid of exponents and floors."""
    exponents = exponent_grid(PRODUCT_EXPONENTS, PRODUCT_EXPONENTS)
    decay = -exponents[:, [0]] * runs.points.n - exponents[:, [1]] * runs.points.d
    return start_coefficients(decay[:, None, :], exponents, runs.log_loss)


PRODUCT = TermLaw(
    name="product",
    formula="E + K/(N^alpha D^beta)",
    parameters=("ln E", "ln K", "alpha", "beta"),
    evaluate=_product,
    decays=_product_decays,
    starts=_product_starts,
    ranges=(COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE),
    needs=needs_spread,
)
"""A floor and one term that falls with N and with D: L(N, D) = E + K / (N^alpha · D^beta).

The compute law with the two factors of C set free. Sums of two terms say that either scarcity alone stops the loss from
falling; small and short runs are not there yet, more of either helps whatever the other is. Kaplan et al. found such
curves well before the limit (arXiv 2001.08361, figure 4).
"""


FRONTIER_GAMMAS, WALLS, SHARES = (0.08, 0.15, 0.25), (0.2, 0.35, 0.6), (0.4, 0.5, 0.6)
SHARE_RANGE = (0.2, 0.9)  # N ~ C^s: from Hoffmann's 0.5 to Kaplan's 0.73 and beyond


def _frontier(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, p, q, gamma, alpha, beta, share = columns(coefficients)
    c, u = points.c, points.n - share * points.c
    total, (floor, small, large) = log_sum([e + 0 * c, p - gamma * c - alpha * u, q - gamma * c + beta * u])
    by_share = (alpha * small - beta * large) * c
    return total, np.stack([floor, small, large, -(small + large) * c, -small * u, large * u, by_share], axis=2)


def _frontier_decays(coefficients: FloatArray, points: Points) -> tuple[FloatArray, ...]:
    _, _, _, gamma, alpha, beta, share = columns(coefficients)
    u = points.n - share * points.c
    return gamma * points.c + alpha * u, gamma * points.c - beta * u


def _frontier_starts(runs: RunTable) -> FloatArray:
    grid = exponent_grid(FRONTIER_GAMMAS, WALLS, WALLS, SHARES)
    gamma, alpha, beta, share = columns(grid)
    c, u = runs.points.c, runs.points.n - share * runs.points.c
    return start_coefficients(np.stack([-gamma * c - alpha * u, -gamma * c + beta * u], axis=1), grid, runs.log_loss)


FRONTIER = TermLaw(
    name="frontier",
    formula="E + C^-gamma (P e^(-alpha u) + Q e^(beta u)), u = ln N - s ln C",
    parameters=("ln E", "ln P", "ln Q", "gamma", "alpha", "beta", "s"),
    evaluate=_frontier,
    decays=_frontier_decays,
    starts=_frontier_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE, EXPONENT_RANGE, SHARE_RANGE),
    needs=needs_spread,
)
"""The frontier as a surface: L = E + C^-gamma (P·e^(-alpha u) + Q·e^(beta u)), u = ln N - s ln C.

Along the best N for each C (N ~ C^s) the loss is E + K/C^gamma; away from it two exponentials give the walls of the
isoFLOP valley. Hoffmann's law is the case gamma = alpha·beta/(alpha+beta), s = beta/(alpha+beta); here gamma and s are
free, so that a recipe whose frontier bends away from its valley's walls can still be followed.
"""


WORTH_STARTS = ((15.0, 5.0), (5.0, 15.0))  # r_D and r_N; the paper finds 15.4 and 5.3
WORTH_RANGE = (0.0, 7.0)  # of ln r


def _data_constrained(coefficients: FloatArray, points: Points) -> tuple[FloatArray, FloatArray]:
    e, a, b, alpha, log_data_worth, log_model_worth = columns(coefficients)
    tokens, _, by_data_worth = effective_amount(points.u, points.d, np.exp(log_data_worth))
    fed = (a - b) / alpha + points.u  # best N for U tokens: (A/B)^(1/alpha) U
    parameters, by_fed, by_model_worth = effective_amount(np.minimum(fed, points.n), points.n, np.exp(log_model_worth))
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


def _data_constrained_starts(runs: RunTable) -> FloatArray:
    plain = tied_starts(runs)
    worths = np.log(np.array(WORTH_STARTS))
    return np.concatenate([np.hstack([plain, np.broadcast_to(worth, (len(plain), 2))]) for worth in worths])


DATA_CONSTRAINED = TermLaw(
    name="data-constrained",
    formula="E + A/N'^alpha + B/D'^alpha, N' and D' discounted for repeats",
    parameters=("ln E", "ln A", "ln B", "alpha", "ln r_D", "ln r_N"),
    evaluate=_data_constrained,
    decays=_tied_decays,
    starts=_data_constrained_starts,
    ranges=(COEFFICIENT_RANGE, COEFFICIENT_RANGE, EXPONENT_RANGE, WORTH_RANGE, WORTH_RANGE),
    needs=needs_repeats,
)
"""Loss when tokens are seen more than once (Muennighoff et al., arXiv 2305.16264, section 3 and appendix A).

L = E + A / N'^alpha + B / D'^alpha. A repeated token is worth less than a new one: with U distinct tokens seen
R + 1 = D/U times, D' = U (1 + r_D (1 - e^(-R / r_D))). Likewise parameters beyond the U_N that U tokens can feed:
N' = U_N (1 + r_N (1 - e^(-R_N / r_N))), R_N = N / U_N - 1, with U_N = min(N, best N for U tokens).
"""


# Exponents and floors of language models lie in a narrow range (arXiv 2404.10102, 2406.19146), which a short table does
# not know. Held near its middle, as strongly as one more run would, a law forecasts better from short tables, and
# further from all. Handicaps: docs/scaling.md says how they were measured.
TYPICAL_FLOOR, TYPICAL_FLOOR_SPREAD = 0.55, 0.5  # of the lowest loss; one standard deviation of its logarithm
TYPICAL_NOISE = 0.006
BY_COMPUTE, BY_ONE, ALONG_BOTH = (0.15, 0.07), (0.35, 0.15), ((2, 0.1, 0.06), (3, 0.15, 0.06))


def _held(law: TermLaw, handicap: float, *exponents: tuple[int, float, float]) -> TermLaw:
    """The law held near typical values."""
    near = HeldNear(TYPICAL_FLOOR, TYPICAL_FLOOR_SPREAD, exponents, TYPICAL_NOISE)
    return replace(law, held=near, handicap=handicap, discounts=True)


TYPICAL_COMPUTE = _held(COMPUTE, 0.18, (2, *BY_COMPUTE))
TYPICAL_FRONTIER = _held(FRONTIER, -0.28, (3, 0.16, 0.05), (4, *BY_ONE), (5, *BY_ONE), (6, 0.5, 0.08))
LAWS: tuple[Law, ...] = (
    TYPICAL_COMPUTE,
    _held(TIED, -0.09, (3, *BY_ONE)),
    _held(HOFFMANN, -0.1, (3, *BY_ONE), (4, *BY_ONE)),
    _held(PRODUCT, 0.17, *ALONG_BOTH),
    TYPICAL_FRONTIER,
    replace(FRONTIER, name="free frontier", discounts=True),
    ISOFLOP,
    replace(DATA_CONSTRAINED, handicap=-0.1),
)
"""Every law that competes for a table, fewest coefficients first where forms are alike."""
SPLITLESS: tuple[Law, ...] = (COMPUTE, TYPICAL_COMPUTE)
"""Laws that do not tell N from D."""

# The laws for a ladder: a dozen runs over one or two decades, each with noise of half a percent. Such runs do not
# determine a floor and exponents; left free, these follow the noise, and the forecast a decade further with them. They
# are held near values usual for small models, as strongly as one more run would. The centre of the floor is far below
# the lowest loss of runs as small as these.
HELD_FLOOR, FLOOR_SPREAD = 0.27, 0.7  # of the lowest loss; one standard deviation of its logarithm
LADDER_NOISE = 0.006  # standard deviation of ln loss of one small run
SUM_EXPONENT = (0.25, 0.15)
CHOOSING_DECADES = 1.9  # of compute, below which a backtest cannot tell a product from a sum

HELD_PRODUCT: Law = replace(
    PRODUCT, held=HeldNear(HELD_FLOOR, FLOOR_SPREAD, ((2, 0.06, 0.04), (3, 0.15, 0.06)), LADDER_NOISE)
)
HELD_TIED: Law = replace(TIED, held=HeldNear(HELD_FLOOR, FLOOR_SPREAD, ((3, *SUM_EXPONENT),), LADDER_NOISE))
HELD_HOFFMANN: Law = replace(
    HOFFMANN, held=HeldNear(HELD_FLOOR, FLOOR_SPREAD, ((3, *SUM_EXPONENT), (4, *SUM_EXPONENT)), LADDER_NOISE)
)


def ladder_laws(runs: RunTable) -> tuple[Law, ...]:
    """The forms that compete for a ladder: all of them over two decades, the product alone over less.

    Sums say that either scarcity alone stops the loss from falling, which runs within a decade or so of each other take
    for more than it is. docs/ladder.md has the figures.
    """
    decades = float(runs.points.c.max() - runs.points.c.min()) / LN10
    return (HELD_PRODUCT, HELD_TIED, HELD_HOFFMANN) if decades >= CHOOSING_DECADES else (HELD_PRODUCT,)
