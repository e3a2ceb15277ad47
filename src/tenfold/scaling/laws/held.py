"""The laws for a ladder: a dozen runs over one or two decades, each with noise of half a percent.

Such runs do not determine a floor and exponents; left free, these follow the noise, and the forecast a decade further
with them. They are held near values usual for small models, as strongly as one more run would. The centre of the floor
is far below the lowest loss of runs as small as these.
"""

from dataclasses import replace

from tenfold.scaling.laws.base import Law
from tenfold.scaling.laws.hoffmann import HOFFMANN
from tenfold.scaling.laws.product import PRODUCT
from tenfold.scaling.laws.terms import Held
from tenfold.scaling.laws.tied import TIED
from tenfold.scaling.table import RunTable
from tenfold.scaling.views import LN10

FLOOR, FLOOR_SPREAD = 0.27, 0.7  # of the lowest loss; one standard deviation of its logarithm
NOISE = 0.006  # standard deviation of ln loss of one small run
SUM_EXPONENT = (0.25, 0.15)
CHOOSING_DECADES = 1.9  # of compute, below which a backtest cannot tell a product from a sum

HELD_PRODUCT: Law = replace(PRODUCT, held=Held(FLOOR, FLOOR_SPREAD, ((2, 0.06, 0.04), (3, 0.15, 0.06)), NOISE))
HELD_TIED: Law = replace(TIED, held=Held(FLOOR, FLOOR_SPREAD, ((3, *SUM_EXPONENT),), NOISE))
HELD_HOFFMANN: Law = replace(HOFFMANN, held=Held(FLOOR, FLOOR_SPREAD, ((3, *SUM_EXPONENT), (4, *SUM_EXPONENT)), NOISE))


def ladder_laws(runs: RunTable) -> tuple[Law, ...]:
    """The forms that compete for a ladder: all of them over two decades, the product alone over less.

    Sums say that either scarcity alone stops the loss from falling, which runs within a decade or so of each other take
    for more than it is. docs/ladder.md has the figures.
    """
    decades = float(runs.points.c.max() - runs.points.c.min()) / LN10
    return (HELD_PRODUCT, HELD_TIED, HELD_HOFFMANN) if decades >= CHOOSING_DECADES else (HELD_PRODUCT,)
