"""What one change of the recipe is worth: a ladder of small runs with and without it, judged. Front door."""

from tenfold.scaling.derisk.assessment import Assessment, Scale, assess
from tenfold.scaling.derisk.comparison import Comparison
from tenfold.scaling.derisk.stack import StackCheck, stack_held, stacked
from tenfold.scaling.derisk.worth import Worth

__all__ = ["Assessment", "Comparison", "Scale", "StackCheck", "Worth", "assess", "stack_held", "stacked"]
