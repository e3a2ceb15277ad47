"""The forms of scaling law, one file each. Front door: the laws and what they have in common."""

from tenfold.scaling.laws.base import Law
from tenfold.scaling.laws.compute import COMPUTE
from tenfold.scaling.laws.data_constrained import DATA_CONSTRAINED
from tenfold.scaling.laws.frontier import FRONTIER
from tenfold.scaling.laws.hoffmann import HOFFMANN
from tenfold.scaling.laws.isoflop import ISOFLOP
from tenfold.scaling.laws.product import PRODUCT
from tenfold.scaling.laws.tied import TIED

LAWS: tuple[Law, ...] = (COMPUTE, TIED, HOFFMANN, FRONTIER, ISOFLOP, DATA_CONSTRAINED)
"""Every law that competes, fewest coefficients first where forms are alike."""

__all__ = [
    "COMPUTE",
    "DATA_CONSTRAINED",
    "FRONTIER",
    "HOFFMANN",
    "ISOFLOP",
    "LAWS",
    "PRODUCT",
    "TIED",
    "Law",
]
